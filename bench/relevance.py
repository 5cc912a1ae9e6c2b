"""The measurements behind prompts, negation, near-copies, the automatic cut and the hubness correction.

python bench/relevance.py ensemble [--data DIR]    short queries in three wordings compared with one
python bench/relevance.py negation [--data DIR]    "dog -water": penalties of several strengths, and subtraction
python bench/relevance.py copies [--data DIR]      which cosine or hash separates altered copies from other photos
python bench/relevance.py cut [--data DIR]         which photos match, and when none does
python bench/relevance.py hubness [--data DIR]     correcting photos that are close to everything (NNN)

DIR contains `flickr8k-dev/`, `pacs/`, `grocery-mit/` and `clip-vectors/`. Default: $IMGSEARCH_TEST_DATA, else
../shared/data beside the repository. The formulas here are plain numpy on unit vectors, not the engine's.
"""

from __future__ import annotations

import argparse
import functools
import itertools
import os
import re
import tempfile
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageEnhance, ImageOps
from quality import REPOSITORY, SEED, indexed, read_lines

from imgsearch.core.evaluation import metrics
from imgsearch.core.models import embedding, loading, registry
from imgsearch.core.models.phrases import neutral_phrases

Vectors = NDArray[np.float32]
Scores = NDArray[np.floating]
Mask = NDArray[np.bool_]
Cut = Callable[[Scores, Scores], Mask]

TEMPLATES = ("{}", "a photo of {}", "a picture of {}")
SHORT = 3
"""Words a query may have to be asked in all templates."""
ROUNDS = 2_000
# A photo shows what at least two of its five captions name; what a single one names is left out of the judgement.
AGREED = 2

# What is typed: the words of a caption that count as naming it.
KEYWORDS = """
dog: dog dogs puppy puppies; man: man men; woman: woman women lady ladies; boy: boy boys; girl: girl girls
child: child children kid kids toddler baby boy boys girl girls; baby: baby babies infant; crowd: crowd crowds crowded
cat: cat cats kitten; bird: bird birds seagull seagulls; horse: horse horses; snow: snow snowy; beach: beach
ocean: ocean sea; water: water; lake: lake; river: river stream; swimming pool: pool; mountain: mountain mountains
grass: grass grassy lawn; sand: sand sandy; trees: tree trees woods forest wooded; forest: woods forest wooded
rock: rock rocks rocky cliff boulder; street: street streets; city: city; building: building buildings
house: house houses; bridge: bridge; sunset: sunset sunrise; night: night; car: car cars; bus: bus; train: train trains
bicycle: bike bikes bicycle bicycles biker bicyclist cyclist bmx; flag: flag flags; fountain: fountain
motorcycle: motorcycle motorcycles motorbike motorcyclist; boat: boat boats kayak canoe raft sailboat rowboat
kayak: kayak kayaker kayaking kayaks; skateboard: skateboard skateboarder skateboarding skateboarders skateboards
snowboard: snowboard snowboarder snowboarding snowboards snowboarders; skiing: ski skier skiing skis skiers
surfing: surf surfer surfing surfboard surfers surfs; soccer: soccer; football: football; basketball: basketball
baseball: baseball softball; tennis: tennis; hockey: hockey; volleyball: volleyball; rugby: rugby; frisbee: frisbee
ball: ball balls basketball football baseball softball; guitar: guitar guitars; bench: bench; couch: couch sofa
table: table; chair: chair chairs; bed: bed; hat: hat hats cap; helmet: helmet helmets; sunglasses: sunglasses
glasses: glasses sunglasses; dress: dress dresses; bikini: bikini bikinis; costume: costume costumes; tent: tent tents
flowers: flower flowers; playground: playground; swing: swing swings swinging; slide: slide slides; toy: toy toys
trampoline: trampoline; stairs: stairs steps staircase; fence: fence; rope: rope ropes; fire: fire bonfire
graffiti: graffiti; camera: camera cameras; stick: stick sticks; race: race racing races; red: red; black: black
climbing: climbing climber climbs climb climbers; swimming: swimming swim swims swimmer; running: running runs run
jumping: jumping jumps jump leaps leaping leap; sitting: sitting sits sit seated; eating: eating eats eat
sleeping: sleeping sleeps asleep sleep; smiling: smiling smiles smile; kissing: kissing kiss kisses; white: white
blue: blue; yellow: yellow; green: green; pink: pink; orange: orange; purple: purple; fishing: fishing fisherman
hiking: hiking hiker hikers hike; dancing: dancing dance dancer dancers; concert: concert stage onstage band
wedding: wedding bride; drinking: drinking drinks drink; food: food; cowboy: cowboy rodeo; face paint: painted
umbrella: umbrella umbrellas; ice: ice icy; mud: mud muddy; sled: sled sledding sleds; ramp: ramp ramps
"""
PHRASES = """
black dog; brown dog; white dog; two dogs; three dogs; red shirt; blue shirt; white shirt; red jacket; pink dress
yellow shirt; green shirt; orange shirt; young boy; little girl; little boy; young girl; old man; tennis player
soccer ball; tennis ball; basketball player; football player; football players; black shirt; blue jacket; red dress
snowy hill; grassy field; dirt bike; dirt road; mountain bike; rock wall; red hat; tennis racket; bathing suit
blue water; stuffed animal; city street; wooden bench; water fountain; brick wall; ice cream; train tracks
german shepherd; golden retriever
"""
# Asked of photos whose captions name none of it.
ABSENT = """
elephant; giraffe; penguin; spaceship; spreadsheet screenshot; submarine; erupting volcano; sushi; castle; lighthouse
helicopter; cactus; jellyfish; octopus; tiger; zebra; kangaroo; crocodile; snake; spider; butterfly; mushroom; violin
microscope; refrigerator; toaster; oil rig; satellite dish; northern lights; coral reef; dinosaur skeleton; roulette
stethoscope; dentist; passport; credit card; barcode; pie chart; stained glass; mosque; gravestone; tank; cannon
tractor; combine harvester; beehive; vineyard; windmill; igloo; telescope; sewing machine; vacuum cleaner; toothbrush
light bulb; screwdriver; lipstick; diamond ring; wristwatch; chocolate cake; spaghetti; lobster; pineapple; broccoli
avocado; fried egg; sourdough bread; espresso machine; teapot; pumpkin; rose bouquet; bonsai; orchid; parrot; owl
peacock; flamingo; goldfish; shark; whale; dolphin; frog; turtle; hedgehog; goat; camel; llama; panda; gorilla
"""
ELSEWHERE = """
quarterly revenue report; invoice from the plumber; error message on a screen; meeting notes; chest CT scan
blood test results; electron microscopy of a cell; galaxy cluster; supernova remnant; topographic map; sheet music
electricity bill; chemical formula; source code listing; architectural blueprint; periodic table; stock market chart
genome sequence; medieval manuscript; ancient Greek vase; roman coins; circuit diagram; logo design; business card
app icon; QR code; knitting pattern; crossword puzzle
"""
SENSELESS = """
asdf qwer; zzxxqq; lkjhg mnbv; xkq vrrt plo; lorem ipsum dolor; qwertyuiop; blorf; frimble; snarg wob; aaaaaa; 12345
x9 f7 k2; gnurf thwop; wqzj; vbnm tyui; hjkl; zx81 qq; flurbish; oompaq; trelk
"""
GROCERIES = """
milk; juice; yoghurt; tomato; potato; melon; pepper; mushroom; apple juice; orange juice; soy milk; bell pepper
"""

# clip-vectors: ImageNet class -> rows of images.jsonl that plainly show it, as a person saw them. Dogs, of whom there
# are many, and classes of which it can be argued are in neither list.
SHOWN = {
    107: (106,), 385: (164,), 386: (164,), 417: (54, 207), 430: (110, 111, 112), 538: (122, 160, 161, 166),
    562: (81, 94), 603: (75,), 668: (122, 161), 679: (188,), 703: (3,), 768: (142,), 802: (89, 90), 805: (141, 144),
    823: (157,), 908: (206,), 951: (136,), 954: (148, 149), 963: (190, 191, 192, 193, 194),
    970: (49, 108, 170, 171, 174, 224), 972: (88, 119, 222), 975: (16, 170, 171, 203),
    978: (38, 41, 47, 57, 115, 116, 117, 118, 119, 133, 179),
}  # fmt: skip
# Dogs and their wild kin; things and scenes begin where animals end.
FIRST_DOG, LAST_DOG, FIRST_THING = 151, 275, 398
NO_ANIMALS = (7, 8, 97, 99, 101, 107, 145, 147, 148, 149, 150, 277, 281, 282, 283, 284, 285, 339, 348, 349, 385, 386)
"""Animals of which one of the kind is, or may be, in a photo."""
ABSENT_THINGS = """
398 401 402 403 405 407 420 426 435 438 447 462 471 481 486 491 508 513 527 528 530 534 541 546 547 554 555 558 561 566
569 574 579 583 587 593 594 604 605 607 613 620 621 635 637 642 651 657 661 673 674 683 687 688 695 699 707 710 713 719
736 740 742 747 755 760 763 772 776 779 786 812 817 820 833 845 847 849 850 851 859 861 866 867 875 878 882 889 891 897
914 915 917 918 987 988 991 992 993 994 995 996 997
"""
BANK = 310
"""Neutral phrases in the calibration record; stand-ins for them where only recorded vectors can be had."""
LEFT_OUT = 30
"""The first photos of clip-vectors: out of the collection, their captions serve as phrases or as hard questions."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", choices=tuple(PARTS))
    parser.add_argument(
        "--data",
        default=os.environ.get("IMGSEARCH_TEST_DATA") or os.path.join(REPOSITORY, "..", "shared", "data"),
    )
    arguments = parser.parse_args()
    PARTS[arguments.part](os.path.abspath(arguments.data))


# vectors


@functools.cache
def model() -> embedding.OpenClipEmbedder:
    return loading.load(registry.parse("builtin"), device="cpu")


def unit(vectors: NDArray[np.floating]) -> Vectors:
    norms = np.linalg.norm(vectors, axis=-1, keepdims=True)
    return np.asarray(vectors / np.maximum(norms, 1e-9), np.float32)


def plain(texts: Sequence[str]) -> Vectors:
    """float32, (n, dim), unit: one vector a text."""
    parts = [model().embed_texts(list(texts[i : i + 256])) for i in range(0, len(texts), 256)]
    return np.concatenate(parts)


def asked(texts: Sequence[str]) -> Vectors:
    """The same, short texts as the mean of several wordings."""
    vectors = plain(texts)
    short = [i for i, text in enumerate(texts) if len(text.split()) <= SHORT]
    if short:
        wordings = [plain([template.format(texts[i]) for i in short]) for template in TEMPLATES]
        vectors[short] = unit(np.sum(wordings, axis=0))
    return vectors


@dataclass(frozen=True)
class Album:
    """Photos with their vectors: `names` are paths below the folder, in order."""

    names: list[str]
    rows: Vectors

    def of(self, names: Sequence[str]) -> Vectors:
        row = {name: i for i, name in enumerate(self.names)}
        return self.rows[[row[name] for name in names]]


def album(folder: str) -> Album:
    """A folder as the index keeps it; byte-identical copies share a vector."""
    with indexed(folder) as searcher:
        view = searcher.view
        slots = [int(slot) for slot in np.flatnonzero(view.slots.mask("image"))]
        places = searcher.store.catalog.places.of_slots(view.space.id, slots, include_offline=False)
        found = sorted((os.path.relpath(place.path, folder), place.slot) for place in places)
        return Album([name for name, _ in found], np.array(view.rows[[slot for _, slot in found]]))


def entries(block: str) -> list[str]:
    return [entry.strip() for entry in re.split(r"[;\n]", block) if entry.strip()]


def words_of(caption: str) -> list[str]:
    return re.findall(r"[a-z]+", caption.lower())


# questions and their answers


@dataclass(frozen=True)
class Questions:
    """Queries with how many captions of each photo name them: int, (queries, photos)."""

    texts: list[str]
    forms: list[frozenset[str]]
    named: NDArray[np.int64]

    @property
    def right(self) -> Mask:
        return self.named >= AGREED

    @property
    def judged(self) -> Mask:
        return np.asarray((self.named == 0) | self.right)

    def only(self, chosen: Iterable[int]) -> Questions:
        at = list(chosen)
        return Questions([self.texts[i] for i in at], [self.forms[i] for i in at], self.named[at])


def keywords(captions: Sequence[Sequence[str]], *, phrases: bool = True, least: int = 2) -> Questions:
    """Words and, with `phrases`, pairs of words that at least `least` photos show."""
    texts: list[str] = []
    forms: list[frozenset[str]] = []
    for entry in entries(KEYWORDS):
        text, named_by = entry.split(":")
        texts.append(text)
        forms.append(frozenset(named_by.split()))
    for phrase in entries(PHRASES) if phrases else ():
        texts.append(phrase)
        forms.append(frozenset({phrase}))
    spoken = [[words_of(caption) for caption in of_photo] for of_photo in captions]
    named = np.array([[sum(names(form, words) for words in photo) for photo in spoken] for form in forms])
    every = Questions(texts, forms, named)
    return every.only(np.flatnonzero(every.right.sum(axis=1) >= least))


def names(form: frozenset[str], words: list[str]) -> bool:
    if any(" " in word for word in form):
        sentence = f" {' '.join(words)} "
        return any(f" {phrase} " in sentence for phrase in form)
    return not form.isdisjoint(words)


@dataclass(frozen=True)
class Flickr:
    rows: Vectors
    captions: list[list[str]]


def flickr(data: str) -> Flickr:
    photos = album(os.path.join(data, "flickr8k-dev", "images"))
    captions = {
        os.path.basename(line["file"]): line["captions"]
        for line in read_lines(os.path.join(data, "flickr8k-dev", "captions.jsonl"))
    }
    return Flickr(photos.rows, [captions[os.path.basename(name)] for name in photos.names])


@dataclass(frozen=True)
class Recorded:
    """clip-vectors, by the model that recorded them or by ours."""

    name: str
    photos: Vectors
    classes: Vectors
    class_names: list[str]
    captions: Vectors
    caption_texts: list[str]
    caption_photo: NDArray[np.int64]
    """Row of the photo that each caption is of."""


def recorded(data: str, *, ours: bool) -> Recorded:
    folder = os.path.join(data, "clip-vectors")
    files = [line["file"] for line in read_lines(os.path.join(folder, "images.jsonl"))]
    lines = read_lines(os.path.join(folder, "texts.jsonl"))
    if ours:
        photos = album(os.path.join(folder, "images")).of(files)
        texts = plain([line["text"] for line in lines])
    else:
        stored = np.load(os.path.join(folder, "vectors.npz"))
        photos, texts = stored["image"], stored["text"]
    is_class = np.array([line["group"].startswith("imagenet") for line in lines])
    captions = [line for line in lines if not line["group"].startswith("imagenet")]
    return Recorded(
        name="builtin" if ours else "CLIP B/32",
        photos=photos,
        classes=texts[is_class],
        class_names=[line["text"].split(",")[0] for line in lines if line["group"].startswith("imagenet")],
        captions=texts[~is_class],
        caption_texts=[line["text"] for line in captions],
        caption_photo=np.array([files.index(line["file"]) for line in captions]),
    )


# figures


def precision(scores: Scores, right: Mask, judged: Mask | None = None) -> float:
    """Average precision over the whole ranking."""
    if judged is not None:
        scores, right = scores[judged], right[judged]
    at = np.flatnonzero(right[np.argsort(-scores, kind="stable")])
    return float((np.arange(1, len(at) + 1) / (at + 1)).mean())


def precisions(scores: Scores, questions: Questions) -> Scores:
    rows = zip(scores, questions.right, questions.judged, strict=True)
    return np.array([precision(row, right, judged) for row, right, judged in rows])


def interval(differences: Scores, groups: Sequence[object] | None = None) -> str:
    found = metrics.paired_bootstrap(np.asarray(differences, np.float64), SEED, ROUNDS, groups=groups)
    return f"{found.mean:+.4f} ({found.low:+.4f} to {found.high:+.4f})"


def auc(higher: Scores, lower: Scores) -> float:
    """How often a draw from the first is above one from the second, ties half."""
    below = np.searchsorted(np.sort(lower), higher, "left") + np.searchsorted(np.sort(lower), higher, "right")
    return float(below.mean() / 2 / len(lower))


def table(*columns: str) -> None:
    print("\n| " + " | ".join(columns) + " |\n|" + "---|" * len(columns))


def row(*cells: object) -> None:
    print("| " + " | ".join(f"{cell:.3f}" if isinstance(cell, float) else str(cell) for cell in cells) + " |")


# three wordings


def ensemble(data: str) -> None:
    sets = [
        ("flickr8k-dev", *flickr_short(data)),
        ("pacs", *pacs_short(data)),
        ("grocery", *grocery_short(data)),
    ]
    table("queries", "n", "mAP as typed", "mAP three wordings", "difference, 95 %", "better / worse")
    pooled: dict[str, list[float]] = {"1 word": [], "2-3 words": []}
    for name, rows, questions in sets:
        before = precisions(plain(questions.texts) @ rows.T, questions)
        after = precisions(asked(questions.texts) @ rows.T, questions)
        for size, at in by_size(questions.texts).items():
            if at:
                print_pair(f"{name}, {size}", before[at], after[at])
                pooled[size] += list(after[at] - before[at])
    for size, differences in pooled.items():
        row(f"all, {size}", len(differences), "", "", interval(np.array(differences)), better_worse(differences))


def by_size(texts: Sequence[str]) -> dict[str, list[int]]:
    one = [i for i, text in enumerate(texts) if " " not in text]
    return {"1 word": one, "2-3 words": [i for i in range(len(texts)) if i not in one]}


def print_pair(name: str, before: Scores, after: Scores) -> None:
    difference = after - before
    row(name, len(before), before.mean(), after.mean(), interval(difference), better_worse(difference))


def better_worse(differences: Sequence[float] | Scores) -> str:
    signs = np.asarray(differences)
    return f"{(signs > 1e-9).sum()} / {(signs < -1e-9).sum()}"


def flickr_short(data: str) -> tuple[Vectors, Questions]:
    photos = flickr(data)
    return photos.rows, keywords(photos.captions)


def pacs_short(data: str) -> tuple[Vectors, Questions]:
    photos = album(os.path.join(data, "pacs", "images"))
    labels = {
        os.path.basename(line["file"]): (line["label"], line["domain"])
        for line in read_lines(os.path.join(data, "pacs", "labels.jsonl"))
    }
    pictures = [labels[os.path.basename(name)] for name in photos.names]
    subjects = sorted({subject for subject, _ in pictures})
    styles = {
        "painting": "art_painting", "art painting": "art_painting", "cartoon": "cartoon", "comic": "cartoon",
        "photo": "photo", "photograph": "photo", "sketch": "sketch", "drawing": "sketch",
    }  # fmt: skip
    both = {"{} painting": "art_painting", "cartoon {}": "cartoon", "{} photo": "photo", "{} sketch": "sketch"}
    right = {subject: [mine == subject for mine, _ in pictures] for subject in subjects}
    right |= {word: [mine == style for _, mine in pictures] for word, style in styles.items()}
    for (template, style), subject in itertools.product(both.items(), subjects):
        right[template.format(subject)] = [mine == (subject, style) for mine in pictures]
    return photos.rows, labelled(right)


def grocery_short(data: str) -> tuple[Vectors, Questions]:
    photos = album(os.path.join(data, "grocery-mit"))
    names = [os.path.splitext(name)[0].replace("-", " ") for name in photos.names]
    right = {name: [other == name for other in names] for name in names if len(name.split()) <= SHORT}
    right |= {kind: [kind in name for name in names] for kind in entries(GROCERIES)}
    return photos.rows, labelled(right)


def labelled(right: dict[str, list[bool]]) -> Questions:
    named = np.array(list(right.values())).astype(np.int64) * AGREED
    return Questions(list(right), [frozenset() for _ in right], named)


# "dog -water"


def penalised(scores: Scores, unwanted: Scores, gamma: float, cap: float) -> Scores:
    """Photos that show the unwanted lose up to `cap` deviations of it, each worth `gamma` spreads of the scores."""
    standing = (unwanted - np.median(unwanted)) / unwanted.std()
    return np.asarray(scores - gamma * scores.std() * np.clip(standing, 0, cap))


NEGATIONS: dict[str, Callable[[Scores, Scores], Scores]] = {
    "none": lambda s, n: s,
    # The cosine to n(t - w n), but for a factor that changes no order.
    "words subtracted, .25": lambda s, n: s - 0.25 * n,
    "words subtracted, .5": lambda s, n: s - 0.5 * n,
} | {
    f"penalty {gamma:g}, cap {cap:g}": lambda s, n, gamma=gamma, cap=cap: penalised(s, n, gamma, cap)
    for gamma in (0.25, 0.5, 0.75, 1.0, 1.5)
    for cap in (2.0, 3.0)
}


def negation(data: str) -> None:
    photos = flickr(data)
    questions = keywords(photos.captions, phrases=False)
    print_negations("flickr8k-dev, builtin", questions, asked(questions.texts) @ photos.rows.T, both=4, alone=8)
    for ours in (False, True):
        vectors = recorded(data, ours=ours)
        questions, scores = spoken_words(vectors)
        print_negations(f"100 photos of clip-vectors, {vectors.name}", questions, scores, both=3, alone=4)


def spoken_words(vectors: Recorded) -> tuple[Questions, Scores]:
    """A word without a recorded vector is the mean of the captions that name it, those of the judged photo left out."""
    photos = sorted(set(vectors.caption_photo.tolist()))
    at = [np.flatnonzero(vectors.caption_photo == photo) for photo in photos]
    questions = keywords([[vectors.caption_texts[i] for i in rows] for rows in at], phrases=False, least=1)
    spoken = [words_of(text) for text in vectors.caption_texts]
    scores = np.empty((len(questions.texts), len(photos)))
    for q, form in enumerate(questions.forms):
        naming = np.array([names(form, words) for words in spoken])
        for p, rows in enumerate(at):
            others = naming.copy()
            others[rows] = False
            scores[q, p] = unit(vectors.captions[others].sum(axis=0)) @ vectors.photos[photos[p]]
    return questions, scores


def print_negations(title: str, questions: Questions, scores: Scores, *, both: int, alone: int) -> None:
    """Of pairs (wanted, unwanted) that `both` photos show together and `alone` without the second."""
    right, named = questions.right, questions.named
    pairs = []
    for a, b in itertools.permutations(range(len(questions.texts)), 2):
        together, without = int((right[a] & right[b]).sum()), int((right[a] & (named[b] == 0)).sum())
        overlap = questions.forms[a] & questions.forms[b]
        if not overlap and together >= max(both, 0.1 * (together + without)) and without >= alone:
            pairs.append((a, b))
    wanted = [a for a, _ in pairs]
    even = np.arange(scores.shape[1]) % 2 == 0

    def figures(rule: Callable[[Scores, Scores], Scores], among: Mask | None = None) -> tuple[Scores, Scores]:
        values, left = [], []
        for a, b in pairs:
            ranked = rule(scores[a], scores[b])
            doubtful = (named[a] == 1) | ((named[b] == 1) & (named[a] >= 1))
            judged = ~doubtful if among is None else ~doubtful & among
            fits = right[a] & (named[b] == 0)
            values.append(precision(ranked, fits, judged) if (fits & judged).any() else np.nan)
            left.append(right[b][np.argsort(-ranked)[:10]].mean())
        return np.array(values), np.array(left)

    print(f"\n{title}: {len(pairs)} pairs, {len(set(wanted))} wanted words")
    table("rule", "mAP", "minus none, 95 % (wanted words drawn)", "unwanted among 10", "even photos", "odd")
    base, base_left = figures(NEGATIONS["none"])
    for name, rule in NEGATIONS.items():
        values, left = figures(rule)
        halves = (float(np.nanmean(figures(rule, half)[0])) for half in (even, ~even))
        lost = f"{left.mean():.3f}, {interval(left - base_left, wanted)}"
        row(name, values.mean(), interval(values - base, wanted), lost, *halves)


# near-copies


def trimmed(picture: Image.Image, left: float, top: float, right: float, bottom: float) -> Image.Image:
    w, h = picture.size
    return picture.crop((int(w * left), int(h * top), int(w * (1 - right)), int(h * (1 - bottom))))


def resized(picture: Image.Image, factor: float) -> Image.Image:
    size = (max(1, int(picture.width * factor)), max(1, int(picture.height * factor)))
    return picture.resize(size, Image.Resampling.LANCZOS)


def brighter(picture: Image.Image, factor: float) -> Image.Image:
    return ImageEnhance.Brightness(picture).enhance(factor)


def turned(picture: Image.Image, degrees: float) -> Image.Image:
    return picture.rotate(degrees, Image.Resampling.BICUBIC)


CHANGES: dict[str, Callable[[Image.Image], Image.Image]] = {
    "quality 40": lambda p: p,
    "half size": lambda p: resized(p, 0.5),
    "crop 2 %": lambda p: trimmed(p, 0.02, 0.02, 0.02, 0.02),
    "crop 5 %": lambda p: trimmed(p, 0.05, 0.05, 0.05, 0.05),
    "crop 10 %": lambda p: trimmed(p, 0.1, 0.1, 0.1, 0.1),
    "bright x1.15": lambda p: brighter(p, 1.15),
    "bright x.7": lambda p: brighter(p, 0.7),
    "contrast x1.3": lambda p: ImageEnhance.Contrast(p).enhance(1.3),
    "shared": lambda p: brighter(resized(trimmed(p, 0.03, 0.03, 0, 0.02), 0.6), 1.05),
    "turned 2 deg": lambda p: trimmed(turned(p, 2), 0.04, 0.04, 0.04, 0.04),
    "next of a burst": lambda p: trimmed(turned(p, 0.7), 0.07, 0.02, 0.01, 0.05),
    "mirrored": ImageOps.mirror,
    "grey": lambda p: p.convert("L").convert("RGB"),
}
# By cosine, bits of 128 that differ, and the logarithm of the quotient of the aspect ratios.
SAME_SHOT: dict[str, Callable[[Scores, Scores, Scores], Mask]] = {
    "cosine .98": lambda c, h, a: c >= 0.98,
    "cosine .97": lambda c, h, a: c >= 0.97,
    "cosine .97, aspect 2 %": lambda c, h, a: (c >= 0.97) & (a < 0.02),
    "cosine .95": lambda c, h, a: c >= 0.95,
    "cosine .93": lambda c, h, a: c >= 0.93,
    "cosine .90": lambda c, h, a: c >= 0.90,
    "cosine .90, aspect 2 %": lambda c, h, a: (c >= 0.90) & (a < 0.02),
    "hash 12": lambda c, h, a: h <= 12,
    "hash 20": lambda c, h, a: h <= 20,
    "hash 20, cosine .7": lambda c, h, a: (h <= 20) & (c >= 0.7),
    "hash 28, cosine .8": lambda c, h, a: (h <= 28) & (c >= 0.8),
}
COPIED = 100
"""Photos of each set that changed copies are made of."""


def copies(data: str) -> None:
    flickr_folder = os.path.join(data, "flickr8k-dev", "images")
    clip_folder = os.path.join(data, "clip-vectors", "images")
    folders = {
        "flickr8k-dev": flickr_folder,
        "clip-vectors": clip_folder,
        "grocery": os.path.join(data, "grocery-mit"),
        "pacs": os.path.join(data, "pacs", "images"),
    }
    albums = {name: album(folder) for name, folder in folders.items()}
    print_found({name: [os.path.join(folders[name], n) for n in albums[name].names] for name in list(folders)[:3]})
    pairs = {
        name: (photos.rows, *outlines([os.path.join(folders[name], n) for n in photos.names]))
        for name, photos in albums.items()
    }
    real = recorded(data, ours=False)
    files = [line["file"] for line in read_lines(os.path.join(data, "clip-vectors", "images.jsonl"))]
    pairs["clip-vectors, CLIP"] = (real.photos, *outlines([os.path.join(clip_folder, file) for file in files]))
    print_merged(pairs)


def outlines(paths: Sequence[str]) -> tuple[NDArray[np.float32], Scores]:
    """A 128-bit difference hash of each picture, as floats of 0 and 1, and its aspect ratio."""
    bits, aspects = [], []
    for path in paths:
        with Image.open(path) as picture:
            grey = ImageOps.exif_transpose(picture).convert("L")
        across = np.asarray(grey.resize((9, 8), Image.Resampling.BOX), int)
        down = np.asarray(grey.resize((8, 9), Image.Resampling.BOX), int)
        bits.append(np.concatenate([np.diff(across, axis=1).ravel() > 0, np.diff(down, axis=0).ravel() > 0]))
        aspects.append(grey.width / grey.height)
    return np.array(bits, np.float32), np.array(aspects)


def print_found(paths: dict[str, list[str]]) -> None:
    generator = np.random.default_rng(SEED)
    chosen = [path for some in paths.values() for path in drawn(some, generator)]
    with tempfile.TemporaryDirectory() as folder:
        for number, path in enumerate(chosen):
            with Image.open(path) as picture:
                upright = ImageOps.exif_transpose(picture).convert("RGB")
            upright.save(os.path.join(folder, f"{number:03} itself.png"))
            for name, change in CHANGES.items():
                changed = change(upright)
                changed.save(copy_path(folder, number, name), quality=40 if name == "quality 40" else 80)
        changed_album = album(folder)
        originals = [f"{number:03} itself.png" for number in range(len(chosen))]
        rows = changed_album.of(originals)
        bits, aspects = outlines([os.path.join(folder, name) for name in originals])
        found: dict[str, list[float]] = {rule: [] for rule in SAME_SHOT}
        medians = []
        for name in CHANGES:
            files = [copy_path(folder, number, name) for number in range(len(chosen))]
            cosines = np.einsum("ij,ij->i", rows, changed_album.of([os.path.basename(file) for file in files]))
            their_bits, their_aspects = outlines(files)
            bits_off, aspect_off = np.abs(bits - their_bits).sum(axis=1), np.abs(np.log(aspects / their_aspects))
            medians.append(float(np.median(cosines)))
            for rule, is_same in SAME_SHOT.items():
                found[rule].append(float(is_same(cosines, bits_off, aspect_off).mean()))
    print(f"{len(chosen)} photos; share of altered copies that a rule accepts as the same photo")
    table("rule", *CHANGES)
    for rule, shares in found.items():
        row(rule, *shares)
    row("(median cosine)", *medians)


def drawn(paths: list[str], generator: np.random.Generator) -> list[str]:
    if len(paths) <= COPIED:
        return paths
    return [paths[i] for i in np.sort(generator.choice(len(paths), COPIED, replace=False))]


def copy_path(folder: str, number: int, change: str) -> str:
    return os.path.join(folder, f"{number:03} {change.replace('.', '_')}.jpg")


def print_merged(sets: dict[str, tuple[Vectors, NDArray[np.float32], Scores]]) -> None:
    print("\npairs of different photos that a rule accepts as the same photo")
    table("rule", *(f"{name} ({len(rows)})" for name, (rows, _, _) in sets.items()))
    for rule, is_same in SAME_SHOT.items():
        counts = []
        for rows, bits, aspects in sets.values():
            apart = bits @ (1 - bits).T + (1 - bits) @ bits.T
            merged = is_same(rows @ rows.T, apart, np.abs(np.log(aspects[:, None] / aspects)))
            counts.append(int(np.triu(merged, 1).sum()))
        row(rule, *counts)
    nearest = []
    for rows, _, _ in sets.values():
        cosines = rows @ rows.T
        np.fill_diagonal(cosines, -1)
        nearest.append(" / ".join(f"{value:.2f}" for value in np.percentile(cosines.max(axis=1), (50, 99, 100))))
    row("(nearest other, median / 99 % / most)", *nearest)


# the automatic cut

UPPER = 1.645
"""The 95th percentile of the normal distribution."""
FLOOR = 2.0
SHARE_OF_BEST = 2 / 3


def standing(scores: Scores, phrases: Scores) -> Scores:
    """How much better a query describes each photo than neutral phrases do, in deviations.

    `scores`: (queries, photos); `phrases`: (phrases, photos), cosines both.
    """
    middle = np.median(phrases, axis=0)
    spread = (np.percentile(phrases, 95, axis=0) - middle) / UPPER
    return np.asarray((scores - middle) / np.maximum(spread, 1e-6))


def gate(photos: int) -> float:
    """The score that the best of `photos` reaches by chance: about the expected maximum of normal noise."""
    return max(FLOOR, float(np.sqrt(2 * np.log(max(photos, 1)))))


def kept(z: Scores) -> Mask:
    """The photos that answer, of one query's standings."""
    best = float(z.max())
    if best < gate(len(z)):
        return np.zeros(len(z), bool)
    return z >= max(FLOOR, SHARE_OF_BEST * best)


def against_background(scores: Scores) -> Scores:
    return np.asarray((scores - scores.mean(axis=1, keepdims=True)) / scores.std(axis=1, keepdims=True))


def among_phrases(scores: Scores, phrases: Scores) -> Scores:
    return np.asarray((scores - phrases.mean(axis=0)) / phrases.std(axis=0))


def doubly(scores: Scores, phrases: Scores) -> Scores:
    """Without the query's mean and without the photo's, over the spread of what is left of the phrases."""
    middle = phrases.mean(axis=0)
    centred = scores - scores.mean(axis=1, keepdims=True) - middle + phrases.mean()
    left = phrases - phrases.mean(axis=1, keepdims=True) - middle + phrases.mean()
    return np.asarray(centred / left.std())


def twice(scores: Scores, phrases: Scores) -> Scores:
    ours, theirs = against_background(scores), against_background(phrases)
    return among_phrases(ours, theirs)


STATISTICS: dict[str, Callable[[Scores, Scores], Scores]] = {
    "cosine": lambda s, p: s,
    "(a) z against the query's background": lambda s, p: against_background(s),
    "(b) z among phrases, mean and deviation": among_phrases,
    "(b) z among phrases, median and 95 %": standing,
    "(b) rank among phrases": lambda s, p: -np.stack([(p > query).mean(axis=0) for query in s]),
    "(c) both means subtracted": doubly,
    "(c) z of z": twice,
    "a + b": lambda s, p: against_background(s) + among_phrases(s, p),
}


@dataclass(frozen=True)
class Scene:
    """A collection with phrases to measure against, and queries by what is expected of them.

    `answered`: vectors and the right photos of each, with what is judged; `unanswered`: vectors.
    """

    name: str
    photos: Vectors
    phrases: Vectors
    answered: dict[str, tuple[Vectors, Mask, Mask]]
    unanswered: dict[str, Vectors]
    hard: dict[str, Vectors]
    """Captions of photos that are not there: of the same world, so that something similar is."""


def cut(data: str) -> None:
    photos = flickr(data)
    phrases = plain(neutral_phrases())
    real = recorded(data, ours=False)
    ours = builtin_scene(photos, phrases, real.class_names)
    scenes = [ours, *(clip_scene(real, bank) for bank in ("classes", "half captions"))]
    for scene in scenes:
        print_statistics(scene)
    table("collection", "queries", "n", "any returned", "right one kept", "precision", "recall", "F1", "median kept")
    for scene in scenes:
        print_kept(scene)
    print_luck(scenes)
    print_rules(ours)
    print_halves(photos, phrases, real.class_names)
    print_small(scenes)


def builtin_scene(photos: Flickr, phrases: Vectors, class_names: Sequence[str]) -> Scene:
    questions = keywords(photos.captions)
    vectors = asked(questions.texts)
    often = questions.right.sum(axis=1)
    groups = {"words, < 10 photos": often < 10, "10-49": (often >= 10) & (often < 50), ">= 50": often >= 50}
    answered = {
        group: (vectors[at], questions.right[at], questions.judged[at]) for group, at in groups.items() if at.any()
    }
    own = np.eye(len(photos.rows), dtype=bool)
    answered["captions"] = (plain([of_photo[0] for of_photo in photos.captions]), own, np.ones_like(own))
    spoken = {word for of_photo in photos.captions for caption in of_photo for word in words_of(caption)}
    outside = [*range(FIRST_DOG), *range(LAST_DOG + 1, FIRST_THING)]
    unanswered = {
        "things": [text for text in entries(ABSENT) if is_unspoken(text, spoken)],
        "animals": [class_names[i] for i in outside if is_unspoken(class_names[i], spoken)],
        "objects": [name for name in class_names[FIRST_THING:] if is_unspoken(name, spoken)],
        "elsewhere": entries(ELSEWHERE),
        "senseless": entries(SENSELESS),
    }
    return Scene("builtin", photos.rows, phrases, answered, {k: asked(texts) for k, texts in unanswered.items()}, {})


def is_unspoken(text: str, spoken: set[str]) -> bool:
    words = [word for word in words_of(text) if len(word) > 3]
    return bool(words) and all(spoken.isdisjoint((word, word + "s", word.rstrip("s"))) for word in words)


def clip_scene(vectors: Recorded, bank: str) -> Scene:
    """Real CLIP has no vectors of our phrases: other class names stand in, or captions of the photos left out."""
    things = [int(number) for number in ABSENT_THINGS.split()]
    animals = [i for i in (*range(FIRST_DOG), *range(LAST_DOG + 1, FIRST_THING)) if i not in NO_ANIMALS]
    neither = [i for i in range(FIRST_THING, len(vectors.classes)) if i not in things and i not in SHOWN]
    is_there = vectors.caption_photo >= LEFT_OUT
    away = vectors.captions[~is_there]
    generator = np.random.default_rng(SEED)
    taken = generator.choice(neither, BANK if bank == "classes" else BANK - len(away), replace=False)
    phrases = vectors.classes[taken] if bank == "classes" else np.concatenate([away, vectors.classes[taken]])
    right = {
        number: np.isin(np.arange(LEFT_OUT, len(vectors.photos)), rows)
        for number, rows in SHOWN.items()
        if max(rows) >= LEFT_OUT
    }
    shown = np.array(list(right.values()))
    own = vectors.caption_photo[is_there][:, None] == np.arange(LEFT_OUT, len(vectors.photos))
    return Scene(
        f"CLIP, {bank}",
        vectors.photos[LEFT_OUT:],
        phrases,
        {
            "classes": (vectors.classes[list(right)], shown, np.ones_like(shown)),
            "captions": (vectors.captions[is_there], own, np.ones_like(own)),
        },
        {"objects": vectors.classes[things], "animals": vectors.classes[animals]},
        {"captions of absent photos": away} if bank == "classes" else {},
    )


def print_statistics(scene: Scene) -> None:
    """Whether the best photo's statistic tells the answerable from the rest.

    Found: above nine in ten of the rest; a tie is not.
    """
    phrases = scene.phrases @ scene.photos.T
    nothing = np.concatenate([vectors for name, vectors in scene.unanswered.items() if name != "senseless"])
    count = sum(len(vectors) for vectors, _, _ in scene.answered.values())
    print(f"\n{scene.name}: {len(scene.photos)} photos, {count} answerable, {len(nothing)} unanswerable")
    table("best photo's", *(f"{name}: AUC, found" for name in scene.answered), *scene.hard)
    for name, statistic in STATISTICS.items():
        lucky = statistic(nothing @ scene.photos.T, phrases).max(axis=1)
        best = {
            group: statistic(vectors @ scene.photos.T, phrases).max(axis=1)
            for group, (vectors, _, _) in scene.answered.items()
        }
        cells = [f"{auc(mine, lucky):.3f}, {(mine > np.quantile(lucky, 0.9)).mean():.2f}" for mine in best.values()]
        hard = [
            f"{auc(best['captions'], statistic(vectors @ scene.photos.T, phrases).max(axis=1)):.3f}"
            for vectors in scene.hard.values()
        ]
        row(name, *cells, *hard)


def standings(scene: Scene, vectors: Vectors) -> Scores:
    return standing(vectors @ scene.photos.T, scene.phrases @ scene.photos.T)


@dataclass(frozen=True)
class Kept:
    """What a rule kept of each query: whether anything, whether anything right, and how well."""

    anything: Mask
    right: Mask
    precision: Scores
    recall: Scores
    f1: Scores
    count: NDArray[np.int64]


def judge(masks: Sequence[Mask], right: Mask, judged: Mask) -> Kept:
    """Precision is nan where nothing was kept, recall and F1 are 0 there."""
    both = np.array([(mask & fits).sum() for mask, fits in zip(masks, right, strict=True)])
    seen = np.array([(mask & counts).sum() for mask, counts in zip(masks, judged, strict=True)])
    count = np.array([mask.sum() for mask in masks])
    total = right.sum(axis=1)
    precision = np.where(seen > 0, both / np.maximum(seen, 1), np.nan)
    return Kept(count > 0, both > 0, precision, both / total, 2 * both / (seen + total), count)


def print_kept(scene: Scene) -> None:
    for group, (vectors, right, judged) in scene.answered.items():
        found = judge([kept(z) for z in standings(scene, vectors)], right, judged)
        figures = (found.anything.mean(), found.right.mean(), np.nanmean(found.precision), found.recall.mean())
        some = int(np.median(found.count[found.anything])) if found.anything.any() else 0
        row(scene.name, group, len(vectors), *(float(figure) for figure in figures), float(found.f1.mean()), some)
    for group, vectors in (scene.unanswered | scene.hard).items():
        anything = float(np.mean([kept(z).any() for z in standings(scene, vectors)]))
        row(scene.name, f"none: {group}", len(vectors), anything, "", "", "", "", "")


def print_luck(scenes: Sequence[Scene]) -> None:
    """The 90th percentile of the best standing of unanswerable queries, beside the gate."""
    sizes = (1, 5, 20, 100, 195, 300, 1000)
    generator = np.random.default_rng(SEED)
    table("best of unanswerable, 90 %", *(f"N = {size}" for size in sizes))
    for scene in scenes:
        z = np.concatenate([standings(scene, vectors) for vectors in scene.unanswered.values()])
        order = generator.permuted(np.tile(np.arange(z.shape[1]), (len(z), 1)), axis=1)
        z = np.take_along_axis(z, order, axis=1)
        row(
            scene.name,
            *(float(np.quantile(z[:, :size].max(axis=1), 0.9)) if size <= z.shape[1] else "" for size in sizes),
        )
    row("gate", *(gate(size) for size in sizes))


def print_rules(scene: Scene) -> None:
    """Whole rules on the built-in model: is anything returned where nothing fits, and what is kept of words."""
    rules: dict[str, Cut] = {
        "gate and 2/3 of the best": lambda z, a: kept(z),
        "gate x .9, 2/3 of the best": lambda z, a: (z >= max(2, z.max() * 2 / 3)) & (z.max() >= 0.9 * gate(len(z))),
        "gate, half of the best": lambda z, a: (z >= max(2, z.max() / 2)) & (z.max() >= gate(len(z))),
        "gate, all above 2": lambda z, a: (z >= 2) & (z.max() >= gate(len(z))),
        "(a) z above 3": lambda z, a: a >= 3,
        "(a) z above 2.5": lambda z, a: a >= 2.5,
        "largest gap": lambda z, a: largest_gap(a),
        "knee": lambda z, a: knee(a),
        "two normal distributions": lambda z, a: upper_of_two(a),
    }
    groups = [group for name, group in scene.answered.items() if name != "captions"]
    words, right, judged = (np.concatenate(parts) for parts in zip(*groups, strict=True))
    nothing = np.concatenate(list(scene.unanswered.values()))
    table("builtin, rule", "unanswerable empty", "words: any", "right one", "precision", "recall", "F1")
    for name, rule in rules.items():
        masks = [
            [
                rule(z, a)
                for z, a in zip(standings(scene, vectors), against_background(vectors @ scene.photos.T), strict=True)
            ]
            for vectors in (nothing, words)
        ]
        found = judge(masks[1], right, judged)
        figures = (
            1 - np.mean([mask.any() for mask in masks[0]]),
            found.anything.mean(),
            found.right.mean(),
            np.nanmean(found.precision),
            found.recall.mean(),
            found.f1.mean(),
        )
        row(name, *(float(figure) for figure in figures))


def largest_gap(scores: Scores) -> Mask:
    ranked = -np.sort(-scores)
    at = int(np.argmax(ranked[:200] - ranked[1:201]))
    return np.asarray(scores >= ranked[at])


def knee(scores: Scores) -> Mask:
    """Down to the point of the falling curve that is nearest to its corner."""
    ranked = -np.sort(-scores)
    height = (ranked - ranked[-1]) / (ranked[0] - ranked[-1])
    return np.asarray(scores >= ranked[int(np.argmin(height + np.linspace(0, 1, len(ranked))))])


def upper_of_two(scores: Scores, rounds: int = 50) -> Mask:
    """Where the higher of two fitted normal distributions is the likelier one."""
    means = np.percentile(scores, (50, 99))
    spreads, share = np.full(2, scores.std()), 0.05
    likely = np.zeros_like(scores)
    for _ in range(rounds):
        low, high = (np.exp(-0.5 * ((scores - m) / s) ** 2) / s for m, s in zip(means, spreads, strict=True))
        likely = share * high / (share * high + (1 - share) * low + 1e-300)
        share = float(np.clip(likely.mean(), 1e-3, 0.6))
        weights = np.stack([1 - likely, likely])
        means = (weights @ scores) / weights.sum(axis=1)
        variances = (weights * (scores - means[:, None]) ** 2).sum(axis=1) / weights.sum(axis=1)
        spreads = np.maximum(0.2 * scores.std(), np.sqrt(variances))
    return np.asarray((likely > 0.5) & (scores > means[0]))


def print_halves(photos: Flickr, phrases: Vectors, class_names: Sequence[str]) -> None:
    """The rule with other phrases and on other photos."""
    table("builtin", "unanswerable empty", "words: any", "precision", "recall")
    banks = {"phrases": phrases, "even phrases": phrases[::2], "odd phrases": phrases[1::2], "60 phrases": phrases[::5]}
    for (bank, some), (half, start) in itertools.product(banks.items(), (("even photos", 0), ("odd photos", 1))):
        part = Flickr(photos.rows[start::2], photos.captions[start::2])
        scene = builtin_scene(part, some, class_names)
        empty = [not kept(z).any() for vectors in scene.unanswered.values() for z in standings(scene, vectors)]
        groups = [group for name, group in scene.answered.items() if name != "captions"]
        words, right, judged = (np.concatenate(parts) for parts in zip(*groups, strict=True))
        found = judge([kept(z) for z in standings(scene, words)], right, judged)
        figures = (np.mean(empty), found.anything.mean(), np.nanmean(found.precision), found.recall.mean())
        row(f"{bank}, {half}", *(float(figure) for figure in figures))


def print_small(scenes: Sequence[Scene]) -> None:
    """One right photo among N - 1 wrong ones: is it kept? And N photos asked for what is not there: are none?"""
    generator = np.random.default_rng(SEED)
    sizes = (1, 2, 5, 20, 100)
    table("small collections", "queries", *(f"N = {size}" for size in sizes))
    for scene in scenes:
        for group, (vectors, right, judged) in scene.answered.items():
            z = standings(scene, vectors)
            shares = []
            for size in sizes:
                hits = []
                for query in generator.integers(len(z), size=300):
                    own = generator.choice(np.flatnonzero(right[query]))
                    others = np.flatnonzero(judged[query] & ~right[query])
                    chosen = np.append(generator.choice(others, size - 1, replace=False), own)
                    hits.append(kept(z[query, chosen])[-1])
                shares.append(float(np.mean(hits)))
            row(scene.name, f"{group}: right one kept", *shares)
        z = np.concatenate([standings(scene, vectors) for vectors in scene.unanswered.values()])
        drawn_rows = [
            [z[query, generator.choice(z.shape[1], size, replace=False)] for query in range(len(z))] for size in sizes
        ]
        row(scene.name, "unanswerable: empty", *(float(np.mean([not kept(s).any() for s in d])) for d in drawn_rows))


# hubness

ALPHAS = (0.25, 0.5, 0.75, 1.0)
NEAREST = (1, 8, 16, 32, 128)
DEPTHS = (1, 5, 10)


def hubness(data: str) -> None:
    photos = flickr(data)
    phrases = plain(neutral_phrases())
    captions = plain([caption for of_photo in photos.captions for caption in of_photo])
    own = np.repeat(np.arange(len(photos.rows)), [len(of_photo) for of_photo in photos.captions])
    print_hubness("flickr8k-dev, builtin, phrases", photos.rows, captions, own, phrases)
    for ours in (False, True):
        vectors = recorded(data, ours=ours)
        generator = np.random.default_rng(SEED)
        classes = vectors.classes[generator.choice(len(vectors.classes), BANK, replace=False)]
        name = f"clip-vectors, {vectors.name}"
        print_hubness(f"{name}, class names", vectors.photos, vectors.captions, vectors.caption_photo, classes)
        even = vectors.caption_photo % 2 == 0
        print_hubness(
            f"{name}, captions of other photos",
            vectors.photos,
            vectors.captions[even],
            vectors.caption_photo[even],
            vectors.captions[~even],
        )
    questions = keywords(photos.captions)
    print_hub_words(asked(questions.texts) @ photos.rows.T, questions, phrases @ photos.rows.T)


def hub(phrases: Scores, nearest: int) -> Scores:
    """How near each photo is to its `nearest` nearest phrases, in the mean."""
    return np.asarray(np.sort(phrases, axis=0)[-nearest:].mean(axis=0))


def print_hubness(title: str, photos: Vectors, captions: Vectors, own: NDArray[np.int64], bank: Vectors) -> None:
    scores, phrases = captions @ photos.T, bank @ photos.T

    def ranks(corrected: Scores) -> NDArray[np.int64]:
        return np.asarray((corrected > corrected[np.arange(len(own)), own][:, None]).sum(axis=1))

    base = ranks(scores)
    corrected = {(a, k): ranks(scores - a * hub(phrases, k)) for a, k in itertools.product(ALPHAS, NEAREST)}
    print(f"\n{title}: {len(captions)} captions, {len(photos)} photos")
    table("alpha \\ k", *(f"k = {k}: R@1 / 5 / 10" for k in NEAREST))
    row("none", " / ".join(f"{(base < depth).mean():.3f}" for depth in DEPTHS), *("" for _ in NEAREST[1:]))
    for a in ALPHAS:
        row(f"{a:g}", *(" / ".join(f"{(corrected[a, k] < d).mean():.3f}" for d in DEPTHS) for k in NEAREST))
    # Photos are drawn, and halves are of photos: captions of one are no independent evidence.
    order = np.unique(own, return_inverse=True)[1]
    table("chosen on", "alpha, k", *(f"R@{depth} on the other half, minus none" for depth in DEPTHS))
    for name, half in (("even photos", order % 2 == 0), ("odd photos", order % 2 == 1)):
        found = {at: sum(float((theirs[half] < d).mean()) for d in DEPTHS) for at, theirs in corrected.items()}
        best = max(found, key=found.__getitem__)
        rest = ~half
        gains = [(corrected[best][rest] < d) * 1.0 - (base[rest] < d) for d in DEPTHS]
        row(name, f"{best[0]:g}, {best[1]}", *(interval(gain, own[rest].tolist()) for gain in gains))


def print_hub_words(scores: Scores, questions: Questions, phrases: Scores) -> None:
    before = precisions(scores, questions)
    print(f"\nflickr8k-dev, builtin, {len(questions.texts)} words: mAP {before.mean():.4f}, minus none")
    table("alpha \\ k", *(f"k = {k}" for k in NEAREST))
    for a in ALPHAS:
        after = [precisions(scores - a * hub(phrases, k), questions) for k in NEAREST]
        row(f"{a:g}", *(interval(values - before) for values in after))


PARTS: dict[str, Callable[[str], None]] = {
    "ensemble": ensemble,
    "negation": negation,
    "copies": copies,
    "cut": cut,
    "hubness": hubness,
}

if __name__ == "__main__":
    main()
