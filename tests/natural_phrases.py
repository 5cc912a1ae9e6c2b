"""150 queries with a date or a file name in them, and 150 that only look like it, as of Wednesday, 15 May 2024."""

from __future__ import annotations

from datetime import date

TODAY = date(2024, 5, 15)

DATED = """
beach july 2023                        | beach | --month 2023-07
july 2023 beach                        | beach | --month 2023-07
Beach, July 2023                       | Beach | --month 2023-07
beach jul 2023                         | beach | --month 2023-07
beach Jul. 2023                        | beach | --month 2023-07
beach july, 2023                       | beach | --month 2023-07
beach in july of 2023                  | beach | --month 2023-07
dog from sept 2019                     | dog | --month 2019-09
beach 2023 july                        | beach | --month 2023-07
sunset 2023-07                         | sunset | --month 2023-07
sunset 07/2023                         | sunset | --month 2023-07
early july 2023 hiking                 | hiking | --month 2023-07
late august 2021                       | | --month 2021-08
may 2019 garden                        | garden | --month 2019-05
march 2020                             | | --month 2020-03
photos from july 2023                  | | --month 2023-07
my photos of may 2024                  | | --month 2024-05
show me all pictures taken in june 2022 | | --month 2022-06
a dog taken in june 2022               | a dog | --month 2022-06
the april 2019 trip                    | trip | --month 2019-04
snow (january 2018)                    | snow | --month 2018-01
beach july 2019 and july 2020          | beach | --month 2019-07 --month 2020-07
14 july 2023                           | | --on 2023-07-14
fireworks 14 july 2023                 | fireworks | --on 2023-07-14
14th of july 2023                      | | --on 2023-07-14
the 14th of july, 2023                 | | --on 2023-07-14
july 14 2023                           | | --on 2023-07-14
July 14th, 2023                        | | --on 2023-07-14
friday 14 july 2023                    | | --on 2023-07-14
on Friday, July 14, 2023               | | --on 2023-07-14
cake on 3 march 2021                   | cake | --on 2021-03-03
2023-07-14                             | | --on 2023-07-14
2023/07/14 picnic                      | picnic | --on 2023-07-14
14.07.2023                             | | --on 2023-07-14
4.7.2023 picnic                        | picnic | --on 2023-07-04
14/07/2023                             | | --on 2023-07-14
07/14/2023                             | | --on 2023-07-14
5/5/2020                               | | --on 2020-05-05
20230714                               | | --on 2023-07-14
29 february 2020                       | | --on 2020-02-29
25 december                            | | --on 12-25
december 25                            | | --on 12-25
25th of December                       | | --on 12-25
the 25th of december                   | | --on 12-25
family on 25 dec                       | family | --on 12-25
july 4th fireworks                     | fireworks | --on 07-04
4 july parade                          | parade | --on 07-04
birthday cake june 5                   | birthday cake | --on 06-05
29 february                            | | --on 02-29
1 may                                  | | --on 05-01
flowers on may 1st                     | flowers | --on 05-01
1 may, flowers                         | flowers | --on 05-01
24 december and 25 december            | | --on 12-24 --on 12-25
christmas 2019                         | | --after 2019-12-24 --before 2019-12-26
family at christmas 2019               | family | --after 2019-12-24 --before 2019-12-26
christmas 2019 dinner                  | dinner | --after 2019-12-24 --before 2019-12-26
christmas, 2019                        | | --after 2019-12-24 --before 2019-12-26
xmas 2015                              | | --after 2015-12-24 --before 2015-12-26
christmas eve 2018                     | | --on 2018-12-24
christmas day 2018 lunch               | lunch | --on 2018-12-25
boxing day 2012                        | | --on 2012-12-26
new year's eve 2018                    | | --on 2018-12-31
new year’s eve 2018                    | | --on 2018-12-31
New Years Eve 2018 fireworks           | fireworks | --on 2018-12-31
new year's day 2019                    | | --on 2019-01-01
new year 2019                          | | --after 2018-12-31 --before 2019-01-01
halloween 2021 pumpkins                | pumpkins | --on 2021-10-31
valentine's day 2020                   | | --on 2020-02-14
easter 2019                            | | --after 2019-04-19 --before 2019-04-22
eggs easter of 2024                    | eggs | --after 2024-03-29 --before 2024-04-01
summer 2023                            | | --after 2023-06 --before 2023-08
the summer of 2019                     | | --after 2019-06 --before 2019-08
my summer 2019 holiday                 | my holiday | --after 2019-06 --before 2019-08
beach in the summer of 2019            | beach | --after 2019-06 --before 2019-08
spring 2020                            | | --after 2020-03 --before 2020-05
autumn 2022 leaves                     | leaves | --after 2022-09 --before 2022-11
fall 2022                              | | --after 2022-09 --before 2022-11
late summer 2018                       | | --after 2018-06 --before 2018-08
winter 2020                            | | --after 2020 --before 2020 --month january --month february --month december
skiing winter 2020/21                  | skiing | --after 2020-12 --before 2021-02
winter 2020-2021                       | | --after 2020-12 --before 2021-02
2019                                   | | --after 2019 --before 2019
beach 2019                             | beach | --after 2019 --before 2019
dog in 2019                            | dog | --after 2019 --before 2019
dog from 2019                          | dog | --after 2019 --before 2019
2019, beach                            | beach | --after 2019 --before 2019
in 2019 at the beach                   | at the beach | --after 2019 --before 2019
the garden in 1967                     | the garden | --after 1967 --before 1967
dog taken in 1998                      | dog | --after 1998 --before 1998
photos from 2021                       | | --after 2021 --before 2021
thanksgiving 2019                      | thanksgiving | --after 2019 --before 2019
world cup 2018                         | world cup | --after 2018 --before 2018
spring break 2019                      | spring break | --after 2019 --before 2019
2017 to 2019                           | | --after 2017 --before 2019
2017-2019                              | | --after 2017 --before 2019
2017 – 2019                            | | --after 2017 --before 2019
dog 2017 to 2019                       | dog | --after 2017 --before 2019
from 2017 to 2019                      | | --after 2017 --before 2019
from 1994 to 1998                      | | --after 1994 --before 1998
between 2017 and 2019                  | | --after 2017 --before 2019
june to august 2022                    | | --after 2022-06 --before 2022-08
from june to august 2022               | | --after 2022-06 --before 2022-08
december to february 2020              | | --after 2019-12 --before 2020-02
june 2021 to may 2022                  | | --after 2021-06 --before 2022-05
between june and august 2022           | | --after 2022-06 --before 2022-08
1 to 5 july 2023                       | | --after 2023-07-01 --before 2023-07-05
hiking 1-5 july 2023                   | hiking | --after 2023-07-01 --before 2023-07-05
24 december 2018 to 2 january 2019     | | --after 2018-12-24 --before 2019-01-02
24 december to 2 january 2019          | | --after 2018-12-24 --before 2019-01-02
2023-07-01 to 2023-07-14               | | --after 2023-07-01 --before 2023-07-14
since 2020                             | | --after 2020
cat since march 2022                   | cat | --after 2022-03
before 2015                            | | --before 2014
beach before june 2019                 | beach | --before 2019-05
after 2019                             | | --after 2020
dog after june 2019                    | dog | --after 2019-07
until 2012                             | | --before 2012
last week                              | | --after 2024-05-06 --before 2024-05-12
photos from last week                  | | --after 2024-05-06 --before 2024-05-12
dog last week                          | dog | --after 2024-05-06 --before 2024-05-12
last week at the beach                 | at the beach | --after 2024-05-06 --before 2024-05-12
last month                             | | --month 2024-04
last year                              | | --after 2023 --before 2023
snow last year                         | snow | --after 2023 --before 2023
last weekend                           | | --after 2024-05-11 --before 2024-05-12
last night                             | | --after 2024-05-14T18:00 --before 2024-05-15T06:00
last friday                            | | --on 2024-05-10
cake last wednesday                    | cake | --on 2024-05-08
dog last summer                        | dog | --after 2023-06 --before 2023-08
last winter                            | | --after 2023-12 --before 2024-02
last spring                            | | --after 2023-03 --before 2023-05
last july                              | | --month 2023-07
last may                               | | --month 2023-05
last april                             | | --month 2024-04
last christmas                         | | --after 2023-12-24 --before 2023-12-26
last easter                            | | --after 2024-03-29 --before 2024-04-01
this year                              | | --after 2024 --before 2024
this month                             | | --month 2024-05
flowers this spring                    | flowers | --after 2024-03 --before 2024-05
yesterday                              | | --on 2024-05-14
dog yesterday                          | dog | --on 2024-05-14
today                                  | | --on 2024-05-15
3 days ago                             | | --on 2024-05-12
two weeks ago                          | | --after 2024-04-29 --before 2024-05-05
a month ago                            | | --month 2024-04
dog ten years ago                      | dog | --after 2014 --before 2014
past 3 months                          | | --after 2024-02-15
in the last 30 days                    | | --after 2024-04-15
in the last year                       | | --after 2023-05-15
in july                                | | --month july
dog in july at the beach               | dog at the beach | --month july
during August                          | | --month august
in the 90s                             | | --after 1990 --before 1999
kids in the 1980s                      | kids | --after 1980 --before 1989
a dress in summer 2019                 | a dress | --after 2019-06 --before 2019-08
red in 2019                            | red | --after 2019 --before 2019
IMG_3551                               | | --name IMG_3551
img_3551.jpg                           | | --name img_3551.jpg
DSC00012                               | | --name DSC00012
_DSC4711.NEF                           | | --name _DSC4711.NEF
PXL_20230714_093015123                 | | --name PXL_20230714_093015123
IMG-20230714-WA0012                    | | --name IMG-20230714-WA0012
P1010234.JPG                           | | --name P1010234.JPG
beach DSCF0815                         | beach | --name DSCF0815
IMG_3551 and IMG_3552                  | | --name IMG_3551 --name IMG_3552
birthday party.jpg                     | | --name birthday party.jpg
"""
"""The query, the words that are left, and the filters."""

ONLY_WORDS = """
a summer dress
may I
Paris Hilton
march of the penguins
april showers tattoo
a 1950s car
2 dogs
friday night lights poster
route 66
windows 95
santa's christmas tree
christmas tree
a christmas card
winter wonderland
a girl named june
april o'neil
miss october
august the clown
the man may be sleeping
march
may
a protest march
soldiers in march step
women march 4 freedom
may 2 dogs play
2 march hares
may the 4th be with you
a dog in winter
a cabin in autumn
spring onions
a mattress spring
a bed with springs
fall from a horse
people fall down the stairs
autumn leaves
summer
summer holiday
indian summer
winter coat
the last supper
last week tonight with john oliver
the last day of school
last summer of my childhood poster
the last samurai
last train to london
the last christmas tree
the past
this dog
this is a cat
this summer dress
today show logo
usa today
a copy of psychology today
yesterday's newspaper
yesterday poster
the day after tomorrow
blade runner 2049
cyberpunk 2077
wonder woman 1984
a book called 1984
2001 a space odyssey
2012 movie poster
class of 2019
a sign saying 2020
a banner that says happy new year 2020
happy new year 2020
merry christmas 2019
happy halloween 2021
a july 2023 calendar
july 2023 calendar
calendar july 2023
a calendar for july 2023
time magazine july 2023
a poster from 2019 hanging on a wall
a summer 2019 dress
a christmas 2019 ornament
christmas 2019 card
olympics logo 2012
a 2010 toyota
2010 toyota camry
a ford mustang from 1967 at a show
a car from 2004 in red
a 2019 calendar
a 1967 mustang
2017-2019 audi a3
a house built in 1990
a church built in 2004
a painting painted in 1889
an album released in 2019
born in 1990
a shop sign since 1985
bakery since 1920
est 2012
established 1998
room 2012
flight 2019
highway 2020
bus 1999
page 2013
office 2007
version 2015
windows 2000
number 2019
no 2014
like 2019
a street in 1950 new york
1914-1918
1914-1918 war graves
the war from 1914 to 1918
9/11 memorial
september 11 memorial
september 11 attacks
24/7
3/4
07/04/2023
2019-13
31 february
30 february 2020
2023-02-30
december 32
13/13/2013
2019 to 2017
july 2031
christmas 2040
1000 people
2500 balloons
1984
1812
5 days of rain
a week of food
3 weeks old puppy
2 years old
999 years ago
an 80s party
80s music
music from the 80s
dressed like in the 90s
fashion in the 90s
the roaring 20s
temperatures in the 20s
a man in his 90s
90s kid
monday morning coffee
a sunday roast
friday the 13th
black friday
freaky friday
taco tuesday
good friday
ash wednesday
girl in july costume
in may gardens
7 eleven
apollo 11
boeing 747
iso 9001
iphone 12
formula 1
4 seasons
the four seasons
12 monkeys
ocean's eleven
img
dsc
abc_1234
bmw_2002
ISO9001
a1234567
red dress like IMG_3551.jpg
"july 2023"
a poster with "july 2023" on it
"IMG_3551"
"""
"""All of it is searched. Double quotes say so, and go."""


def dated() -> list[tuple[str, str, str]]:
    rows = [tuple(part.strip() for part in line.split("|")) for line in DATED.strip().splitlines()]
    return [(typed, words, filters) for typed, words, filters in rows]


def only_words() -> list[str]:
    return ONLY_WORDS.strip().splitlines()
