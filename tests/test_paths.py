from __future__ import annotations

import base64
import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imgsearch.core.paths import has_picture_extension, path_fields, printable


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("été 鳥.jpg", "été 鳥.jpg"),
        ("a\x1b]0;owned\x07.jpg", "a\\x1b]0;owned\\x07.jpg"),
        ("two\nlines\t.jpg", "two\\nlines\\t.jpg"),
        ("evil\u202egpj.exe", "evil\\u202egpj.exe"),
        (os.fsdecode(b"caf\xe9.jpg"), "caf\\xe9.jpg"),
        ("c1\x9b31m", "c1\\u009b31m"),
    ],
)
def test_a_name_never_reaches_a_terminal_raw(name, shown):
    assert printable(name) == shown


@given(st.binary(min_size=1, max_size=40).filter(lambda raw: b"\0" not in raw))
def test_any_name_can_be_shown_and_comes_back_from_its_json_keys(raw):
    name = os.fsdecode(raw)
    assert not any(ord(c) < 0x20 or 0x7F <= ord(c) < 0xA0 or 0xD800 <= ord(c) < 0xE000 for c in printable(name))
    fields = path_fields(name)
    fields["path"].encode("utf-8")
    back = base64.b64decode(fields["path_b64"]) if "path_b64" in fields else os.fsencode(fields["path"])
    assert back == raw


def test_extensions_match_in_any_case():
    assert has_picture_extension("A.JPG") and has_picture_extension("b.Heic")
    assert not has_picture_extension("jpg") and not has_picture_extension("a.txt")
