"""Which JSON file of a Google Takeout belongs to which photo of its folder, by their names alone.

The JSON file of `IMG.jpg` is `IMG.jpg.json` or, since 2024, `IMG.jpg.supplemental-metadata.json`. What precedes `.json`
is cut to 46 UTF-16 units, in the middle of the suffix or of the photo's own name. The number of a duplicate follows the
cut: `IMG(1).jpg` has `IMG.jpg.supplemental-metadata(1).json`. A photo that was uploaded without an extension has
`IMG.json`. An edited copy has no file of its own and shares that of its original.

Two long names may be equal up to the cut. Then both are given the file, and its `title` decides when it is read: see
`fits_title`. No file is opened here, and the work is linear in the number of names.
"""

from __future__ import annotations

import html
import os
import re
import unicodedata
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Literal

from imgsearch.core.paths import has_picture_extension

_SUFFIX = "supplemental-metadata"
_CUTS = (46, 51)
"""Where the names of JSON files are cut, not counting `.json`: nearly always at the first."""
_NAME_UNITS, _STEM_UNITS = 51, 47
"""Where names of photos are cut, with and without extension."""
_NUMBERED = re.compile(r"(.+)\(([0-9]{1,9})\)", re.DOTALL)
_LOST = re.compile(r"[^\w .()-]")
_EDITED = frozenset(
    unicodedata.normalize("NFC", word)
    for word in (
        "edited|effects|smile|mix|bearbeitet|bewerkt|modifié|modificato|editado|editada|ha editado|editat|edytowane"
        "|redigerad|redigeret|redigert|muokattu|upraveno|upravené|szerkesztve|düzenlendi|отредактировано|изменено"
        "|відредаговано|編集済み|编辑|已编辑|已修改|已編輯|수정됨|편집됨"
    ).split("|")
)
"""What Google Photos appends to the name of an edited copy, after a hyphen, by the language of the account."""
_OF_ALBUMS = frozenset(("metadata", "metadaten", "metadatos", "metadati", "metadados", "métadonnées"))
"""The names of the JSON files of albums, which describe no photo."""

_Key = tuple[str, str]
"""The name of a photo, or the part of it that a JSON file has, and the number of a duplicate."""
Relation = Literal["whole", "cut", "stem"]


def pair(files: Collection[str], json_files: Iterable[str]) -> dict[str, str]:
    """The JSON file of each of a folder's `files` that has one."""
    left = set(json_files)
    found: dict[str, str] = {}
    for file in files:
        newer = f"{file}.{_SUFFIX}"[: _CUTS[0]]
        for usual in (f"{newer}.json", f"{file}.json"):
            if usual in left and len(file) <= len(newer):
                found.setdefault(file, usual)
                left.remove(usual)
    unpaired = [_Name(file) for file in files if file not in found]
    return _pair_others(files, unpaired, _Pairs(left, found)) if unpaired else found


def _pair_others(files: Collection[str], unpaired: Sequence[_Name], pairs: _Pairs) -> dict[str, str]:
    pairs.match(unpaired, _whole)
    copies = {
        name: original for name in unpaired if name.given not in pairs.found and (original := name.original) is not None
    }
    by_whole = {_nfc(file): file for file in files} if copies else {}
    by_stem: dict[str, list[str]] = {}
    for whole, file in by_whole.items():
        if has_picture_extension(whole):
            by_stem.setdefault(os.path.splitext(whole)[0], []).append(file)
    absent = {each.whole: each for each in copies.values() if each.whole not in by_whole and each.stem not in by_stem}
    originals = [*(name for name in unpaired if name not in copies), *absent.values()]
    pairs.match(absent.values(), _whole)
    pairs.match(originals, _cut, is_shared=True)
    pairs.match(originals, _stems)
    pairs.match_loosely(originals)
    of_stem = {stem: pairs.only_one_of(relatives) for stem, relatives in by_stem.items()}
    for copy, original in copies.items():
        own = pairs.found.get(by_whole.get(original.whole, original.whole))
        if shared := own or of_stem.get(original.stem):
            pairs.found[copy.given] = shared
    pairs.match(copies, _cut)  # photos whose names only look like those of copies
    pairs.match(copies, _stems)
    return {file: pairs.found[file] for file in files if file in pairs.found}


def relation(photo: str, json_file: str) -> Relation:
    """What of its photo's name a JSON file has that `pair` gave it: all of it, a part, or all but the extension."""
    spellings = _spellings_of(photo)
    bodies = {(_loose(body), number) for body, number in _bodies(json_file)}
    owners = {(owner, number) for body, number in bodies for owner in _owners(body)}
    if any((_loose(name), number) in owners for name, number in spellings):
        return "whole"
    is_cut = any((_loose(_cut_to(name, limit)), number) in bodies for name, number in spellings for limit in _CUTS)
    return "cut" if is_cut else "stem"


def fits_title(photo: str, json_file: str, title: object) -> bool:
    """Whether the title in a JSON file may be that of a photo: its name at upload, longer, and with any characters."""
    if not isinstance(title, str):
        return False
    wanted = _loose(_nfc(html.unescape(title)))
    numbers = {number for _, number in _bodies(json_file)}
    return any(_is_cut_of(_loose(name), wanted) for name, number in _spellings_of(photo) if number in numbers)


def _spellings_of(photo: str) -> list[_Key]:
    """The names that a photo may have been uploaded with, and its numbers."""
    name = _Name(photo)
    return [spelling for each in (name, name.original) if each for spelling in each.spellings]


class _Name:
    """The name of a file, in the forms in which JSON files may have it."""

    __slots__ = ("given", "spellings", "stem", "whole")

    def __init__(self, given: str) -> None:
        self.given = given
        self.whole = _nfc(given)
        self.stem, ending = os.path.splitext(self.whole)
        unnumbered, number = _without_number(self.stem)
        self.spellings = [(self.whole, "")]
        """(name, number of a duplicate): `a(1).jpg` is that, or `a.jpg` with the number 1."""
        if number:
            self.spellings.append((unnumbered + ending, number))

    @property
    def original(self) -> _Name | None:
        """The name of the photo that a file with this name is an edited copy of."""
        unnumbered, number = _without_number(self.stem)
        base, hyphen, word = unnumbered.rpartition("-")
        if not base or not hyphen or not word:
            return None
        ending, word = self.whole[len(self.stem) :], word.casefold()
        is_at_limit = _units(unnumbered) == _STEM_UNITS or _units(unnumbered + ending) == _NAME_UNITS
        if word in _EDITED or (is_at_limit and any(each.startswith(word) for each in _EDITED)):
            return _Name(base + (f"({number})" if number else "") + ending)
        return None


class _Pairs:
    """JSON files by the names they may stand for, and what was paired so far."""

    def __init__(self, json_files: Iterable[str], found: dict[str, str]) -> None:
        self.found = found
        """File -> JSON file."""
        self._files: dict[_Key, tuple[int, str]] = {}
        """Each with the rank of the naming: the newer one first, whose export is the later one."""
        self._taken: set[str] = set()
        for file in json_files:
            for body, number in _bodies(file):
                for owner in _owners(body):
                    best = (len(owner) - len(body), file)
                    self._files[owner, number] = min(self._files.get((owner, number), best), best)

    def match(
        self,
        names: Iterable[_Name],
        keys: Callable[[_Name], Iterable[_Key]],
        *,
        files: Mapping[_Key, tuple[int, str]] | None = None,
        is_shared: bool = False,
    ) -> None:
        """Pair those of `names` that have no file yet by the first of their `keys` that is one's. A file that several
        claim is given to all of them if `is_shared`, else to none."""
        claims: dict[str, list[_Name]] = {}
        for name in names:
            if name.given not in self.found:
                claimed = (self._free(key, self._files if files is None else files) for key in keys(name))
                if file := next(filter(None, claimed), None):
                    claims.setdefault(file, []).append(name)
        for file, claimants in claims.items():
            if is_shared or len(claimants) == 1:
                self._taken.add(file)
                self.found.update((name.given, file) for name in claimants)

    def _free(self, key: _Key, files: Mapping[_Key, tuple[int, str]]) -> str | None:
        file = files.get(key)
        return None if file is None or file[1] in self._taken else file[1]

    def match_loosely(self, names: Iterable[_Name]) -> None:
        """Pair what differs in case, or in characters that a file's name cannot have."""
        lacking = [name for name in names if name.given not in self.found]
        loose: dict[_Key, set[tuple[int, str]]] = {}
        for (owner, number), file in self._files.items() if lacking else ():
            if file[1] not in self._taken:
                loose.setdefault((_loose(owner), number), set()).add(file)
        files = {key: min(several) for key, several in loose.items() if len(several) == 1}
        for kind in (_whole, _cut, _stems):
            self.match(lacking, _loosely(kind), files=files)

    def only_one_of(self, names: Iterable[str]) -> str | None:
        """The file that one of `names` has, unless others have others."""
        files = {self.found[name] for name in names if name in self.found}
        return files.pop() if len(files) == 1 else None


def _whole(name: _Name) -> list[_Key]:
    return name.spellings


def _cut(name: _Name) -> list[_Key]:
    """By its number first: the cut takes the number out of the whole name, which is then that of others, too."""
    numbered_first = reversed(name.spellings)
    parts = [(_cut_to(spelling, limit), spelling, number) for spelling, number in numbered_first for limit in _CUTS]
    return [(part, number) for part, spelling, number in parts if part != spelling]


def _stems(name: _Name) -> list[_Key]:
    return [(os.path.splitext(spelling)[0], number) for spelling, number in name.spellings]


def _loosely(kind: Callable[[_Name], list[_Key]]) -> Callable[[_Name], list[_Key]]:
    return lambda name: [(_loose(part), number) for part, number in kind(name)]


def _bodies(json_file: str) -> list[_Key]:
    """What precedes `.json`, as it is and without the number of a duplicate. None for the file of an album."""
    body = _nfc(json_file)[: -len(".json")]
    unnumbered, number = _without_number(body)
    if unnumbered.casefold() in _OF_ALBUMS:
        return []
    return [(body, ""), (unnumbered, number)] if number else [(body, "")]


def _owners(body: str) -> list[str]:
    """The names that it may begin with: all of it, and what is left without `.supplemental-metadata`, cut anywhere."""
    name, dot, suffix = body.rpartition(".")
    has_suffix = dot and name and (_SUFFIX.startswith(suffix) or suffix == "metadata")
    return [body, name] if has_suffix else [body]


def _without_number(stem: str) -> tuple[str, str]:
    found = _NUMBERED.fullmatch(stem) if stem[-1:] == ")" else None
    return (found[1], found[2]) if found else (stem, "")


def _nfc(name: str) -> str:
    return name if name.isascii() else unicodedata.normalize("NFC", name)


def _units(text: str) -> int:
    return len(text) if text.isascii() else len(text) + sum(character > "\uffff" for character in text)


def _cut_to(text: str, limit: int) -> str:
    """The longest part of at most `limit` UTF-16 units."""
    if len(text) <= limit and _units(text) <= limit:
        return text
    part = text[:limit]
    while _units(part) > limit:
        part = part[:-1]
    return part


def _loose(text: str) -> str:
    """Without case, and with `_` for everything that may become `_` in a file's name."""
    return _LOST.sub("_", text.casefold())


def _is_cut_of(name: str, title: str) -> bool:
    """Whether a photo whose title is `title` may have the name `name`; both as `_loose` gives them."""
    stem, ending = os.path.splitext(name)
    if title in (name, stem):
        return True
    is_at_limit = _units(stem) == _STEM_UNITS or _units(name) == _NAME_UNITS
    return is_at_limit and title.startswith(stem) and os.path.splitext(title)[1] == ending
