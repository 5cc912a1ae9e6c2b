"""Names as people type them: without differences of case, accents, punctuation and white space."""

from __future__ import annotations

import unicodedata

# Letters that Unicode does not decompose.
_LETTERS = {"ø": "o", "ł": "l", "đ": "d", "ð": "d", "ħ": "h", "ı": "i", "þ": "th", "æ": "ae", "œ": "oe"}
_PLAIN = str.maketrans(_LETTERS | dict.fromkeys("-‐‑–_", " ") | dict.fromkeys(".'’‘ʻʼ`´", ""))


def fold(name: str) -> str:
    """`São Paulo` and `sao paulo` are equal, and so are `Coeur d'Alene` and `coeur dalene`."""
    letters = unicodedata.normalize("NFKD", name.casefold())
    plain = "".join(letter for letter in letters if not unicodedata.combining(letter))
    return " ".join(plain.translate(_PLAIN).split())
