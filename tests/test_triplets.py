"""Triplets from captions: which photo is the reference of another, and what the change is."""

from __future__ import annotations

import json

from imgsearch.core.compose.caption_triplets import triplets

CAPTIONS = (
    ("A brown dog runs through deep snow .", "A dog is running in the snow ."),
    ("A brown dog runs through deep snow on a red leash .", "The dog is in the snow ."),
    ("Two boys play football .", "Boys with a ball on a field ."),
    ("A girl and two boys play football in the rain .", "Children play on a wet field with a ball ."),
    ("A brown dog runs through snow .", "A dog in snow ."),
)


def test_the_change_is_what_the_photo_most_alike_does_not_show():
    found = {each.target: each for each in triplets(CAPTIONS)}
    assert found[1] == (0, "on a red leash", 1)
    assert found[3] == (2, "in the rain", 3)
    assert 4 not in found, "every content word of its captions is in those of the photo most alike"


def test_a_change_has_two_to_seven_words_and_no_function_word_at_its_end():
    def changes(text):
        return [each.change for each in triplets([("A dog",), (f"A dog {text}",)]) if each.target == 1]

    assert changes("and a stick near the") == ["a stick"]
    assert changes("with sticks") == ["with sticks"]
    assert changes("barking") == [], "one word"
    assert changes("with very long thin shiny old blue nylon rope") == [], "nine words"


def test_the_rule_gives_the_same_triplets_each_time():
    assert triplets(CAPTIONS) == triplets(CAPTIONS)


def test_of_real_captions_nearly_every_photo_is_a_target(shared):
    """That words alone find few of them: test_acceptance.py."""
    lines = (shared / "flickr8k-dev" / "captions.jsonl").read_text().splitlines()
    found = triplets([json.loads(line)["captions"] for line in lines])
    assert len(found) == len({each.target for each in found}) == 998
    assert all(each.reference != each.target and 2 <= len(each.change.split()) <= 7 for each in found)
