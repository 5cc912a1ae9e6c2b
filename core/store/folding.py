"""Names as people type them: without differences of case, accents, hyphens and white space."""

from __future__ import annotations

import unicodedata

_PLAIN = str.maketrans({"ø": "o", "ł": "l", "đ": "d", "ð": "d", "þ": "th", "æ": "ae", "œ": "oe", "ı": "i", "’": "'"})
"""Letters that Unicode does not decompose."""
_GAPS = str.maketrans(dict.fromkeys("-‐‑–_", " "))


def fold(name: str) -> str:
    """`São Paulo` and `sao paulo` are equal, and `Saint-Denis` and `saint denis`."""
    letters = unicodedata.normalize("NFKD", name.casefold())
    plain = "".join(letter for letter in letters if not unicodedata.combining(letter))
    return " ".join(plain.translate(_PLAIN).translate(_GAPS).split())
