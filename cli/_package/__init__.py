"""grep for photos: search local pictures by words, by a picture, or by a picture plus a change."""

__version__ = "0.1.0"
