"""Annotation files as questions: the real ones by their counts, all kinds of captions files, and submissions."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from imgsearch.core.errors import ImgsearchError, QueryError, UsageError
from imgsearch.core.evaluation import loaders, submissions

CATEGORIES = ("dress", "shirt", "toptee")


def written(path: Path, data: object) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(data if isinstance(data, str) else json.dumps(data))
    return str(path)


# ------------------------------------------------------------------------------------------------ the real files


@pytest.fixture
def annotations(shared) -> Path:
    return shared / "annotations"


def test_cirr_asks_4181_queries_of_2297_pictures_and_ranks_five_others_of_each_set(annotations):
    cirr = loaders.cirr(str(annotations / "cirr"))
    gallery = set(cirr.galleries[""])
    assert (len(cirr.queries), len(gallery)) == (4181, 2297)
    assert cirr.metrics == (
        *("recall@1", "recall@5", "recall@10", "recall@50"),
        *("recall_subset@1", "recall_subset@2", "recall_subset@3"),
    )
    for question in cirr.queries:
        assert question.exclude == {question.image} and question.image in gallery
        assert len(question.subset) == 5 and question.image not in question.subset
        assert set(question.relevant) < set(question.subset) < gallery
    assert cirr.aliases["dev-244-0-img0"][0] == "dev/dev-244-0-img0.png"
    raw = json.loads((annotations / "cirr" / "captions" / "cap.rc2.val.json").read_text())
    assert sum("  " in record["caption"] for record in raw) == 48
    assert not any("  " in question.texts[0] for question in cirr.queries)


def test_fashioniq_has_its_queries_and_both_galleries(annotations):
    whole = loaders.fashioniq(str(annotations / "fashion-iq"))
    union = loaders.fashioniq(str(annotations / "fashion-iq"), gallery="union")
    assert [len(whole.galleries[category]) for category in CATEGORIES] == [3817, 6346, 5373]
    assert [sum(q.part == category for q in whole.queries) for category in CATEGORIES] == [2017, 2038, 1961]
    for category in CATEGORIES:
        named = {name for q in union.queries if q.part == category for name in (q.image, *q.relevant)}
        assert set(union.galleries[category]) == named < set(whole.galleries[category])
    assert (whole.protocol["gallery"], union.protocol["gallery"]) == ("original", "union")
    assert all(not question.exclude for question in whole.queries)


@pytest.mark.parametrize(
    ("join", "texts"),
    [
        (
            "mean",
            (
                "is shiny and silver with shorter sleeves and fit and flare",
                "fit and flare and is shiny and silver with shorter sleeves",
            ),
        ),
        ("and", ("is shiny and silver with shorter sleeves and fit and flare",)),
        ("reversed", ("fit and flare and is shiny and silver with shorter sleeves",)),
        ("comma", ("is shiny and silver with shorter sleeves, and fit and flare",)),
    ],
)
def test_fashioniq_joins_its_two_captions_as_it_says(annotations, join, texts):
    found = loaders.fashioniq(str(annotations / "fashion-iq"), join=join)
    assert found.queries[0].texts == texts
    assert found.protocol["join"] == join


def test_circo_has_220_queries_with_up_to_14_answers_that_never_hold_the_reference(annotations):
    circo = loaders.circo(str(annotations / "circo"))
    assert len(circo.queries) == 220
    counts = [len(question.relevant) for question in circo.queries]
    assert max(counts) == 14 and sum(counts) / 220 == pytest.approx(4.16, abs=0.1)
    for question in circo.queries:
        assert question.image not in question.relevant and question.target in question.relevant
        assert not question.exclude
    assert len(circo.aliases) == 1121
    assert circo.aliases["271520"][0] == "000000271520.jpg"


@pytest.mark.parametrize(
    ("concept", "text"),
    [
        ("none", "shows two people and has a more colorful background"),
        (
            "magiclens",
            "find a girl with a traditional Chinese umbrella but shows two people and has a more colorful background",
        ),
        (
            "bge",
            "Find a picture that also a girl with a traditional Chinese umbrella, but shows two people and has a more "
            "colorful background",
        ),
    ],
)
def test_circo_names_the_shared_concept_or_not(annotations, concept, text):
    circo = loaders.circo(str(annotations / "circo"), shared_concept=concept)
    assert circo.queries[0].texts == (text,)
    assert circo.protocol["shared_concept"] == concept


def test_a_submission_has_the_shape_of_circos_example(annotations):
    circo = loaders.circo(str(annotations / "circo"))
    example = json.loads((annotations / "circo" / "submission_examples" / "submission_val.json").read_text())
    rankings = {name: [str(number) for number in numbers] for name, numbers in example.items()}
    (made,) = submissions.submission(circo, rankings, {}).values()
    assert made == example
    assert all(len(set(numbers)) == 50 for numbers in made.values())


# --------------------------------------------------------------------------------------------- captions, six ways

KARPATHY = {
    "dataset": "flickr8k",
    "images": [
        {"filename": "a.jpg", "split": "test", "sentences": [{"raw": f"a {n}"} for n in range(6)]},
        {"filename": "b.jpg", "filepath": "val2014", "split": "test", "sentences": [{"raw": "b, with a comma"}]},
        {"filename": "c.jpg", "split": "train", "sentences": [{"raw": "c"}]},
    ],
}
COCO = {
    "images": [{"id": 7, "file_name": "a.jpg"}, {"id": 3, "file_name": "b.jpg"}],
    "annotations": [
        {"image_id": 3, "caption": "b, with a comma"},
        *({"image_id": 7, "caption": f"a {n}"} for n in range(6)),
    ],
}
TABLE = "image,caption\n" + "".join(f"a.jpg,a {n}\n" for n in range(6)) + "\nb.jpg,b, with a comma\n"
TOKENS = "".join(f"a.jpg#{n}\ta {n}\n" for n in range(6)) + "b.jpg#0\tb, with a comma\n"
LISTED = (
    json.dumps({"file": "a.jpg", "captions": [f"a {n}" for n in range(6)]})
    + "\n\n"
    + json.dumps({"file": "b.jpg", "captions": ["b, with a comma"]})
)


@pytest.mark.parametrize(
    "content", [KARPATHY, COCO, TABLE, TOKENS, LISTED], ids="karpathy coco table tokens listed".split()
)
def test_captions_formats_are_detected_by_content(tmp_path, content):
    path = written(tmp_path / "captions", content)
    five = loaders.captions("flickr", path)
    assert five.captions == {"a.jpg": tuple(f"a {n}" for n in range(5)), "b.jpg": ("b, with a comma",)}
    assert set(five.galleries["t2i"]) == {"a.jpg", "b.jpg"}
    asked = {question.texts[0]: (dict(question.relevant), question.group) for question in five.queries}
    assert asked["a 3"] == ({"a.jpg": 1.0}, "a.jpg") and len(asked) == 6
    assert five.protocol["captions_per_image"] == 5
    everything = loaders.captions("flickr", path, per_image=None)
    assert len(everything.captions["a.jpg"]) == 6 and everything.protocol["captions_per_image"] == "all"


def test_a_prompt_goes_around_every_caption_and_into_the_protocol(tmp_path):
    path = written(tmp_path / "captions", LISTED)
    found = loaders.captions("flickr", path, prompt="a photo of {}.")
    assert found.queries[-1].texts == ("a photo of b, with a comma.",)
    assert found.protocol["prompt"] == "a photo of {}."
    with pytest.raises(UsageError, match="where the caption goes"):
        loaders.captions("flickr", path, prompt="a photo")


def test_a_split_that_is_not_there_is_named_beside_those_that_are(tmp_path):
    path = written(tmp_path / "dataset.json", KARPATHY)
    assert set(loaders.captions("flickr", path, split="train").captions) == {"c.jpg"}
    with pytest.raises(QueryError, match="no split 'val'") as refused:
        loaders.captions("flickr", path, split="val")
    assert refused.value.hint == "it has: test, train"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "not a captions file in a known format"),
        ("[1, 2]", "not a captions file in a known format"),
        ('{"some": "thing"}', "not a captions file in a known format"),
        ("just\nwords\n", "not a captions file in a known format"),
        ("a.jpg,a\nnonsense\n", "captions:2: not a `picture.jpg,caption`"),
        ('{"file": "a.jpg", "captions": ["a"]}\n{"file": 3, "captions": []}', "captions:2: no file with its captions"),
        ('{"file": "a.jpg", "captions": ["a"]}\n{"file": ', "captions:2: not a JSON object"),
        ('{"file": "a.jpg", "captions": []}', "no captions found"),
        ('{"images": [{"filename": "a.jpg"}]}', "no 'split' in one of the records"),
        ('{"images": [], "annotations": [{"image_id": 3}]}', "no 3 in one of the records"),
    ],
)
def test_another_file_is_refused_as_captions_with_its_name_and_line(tmp_path, content, message):
    path = written(tmp_path / "captions", content)
    with pytest.raises(ImgsearchError) as refused:
        loaders.captions("coco", path)
    assert message in str(refused.value) and str(tmp_path) in str(refused.value)
    assert refused.value.hint


def test_bytes_that_are_no_text_and_a_file_that_is_not_there_are_errors_of_one_line(tmp_path):
    (tmp_path / "picture.jpg").write_bytes(b"\xff\xd8\xff\xe0")
    with pytest.raises(QueryError, match="not UTF-8 text"):
        loaders.captions("coco", str(tmp_path / "picture.jpg"))
    with pytest.raises(UsageError, match="no such file"):
        loaders.captions("coco", str(tmp_path / "nowhere.json"))
    with pytest.raises(UsageError, match="no such file") as refused:
        loaders.cirr(str(tmp_path))
    assert refused.value.hint == "--annotations takes the folder that contains captions/"


def test_a_benchmark_file_of_another_shape_is_refused(tmp_path):
    written(tmp_path / "captions" / "cap.rc2.val.json", [{"pairid": 1, "reference": "a"}])
    written(tmp_path / "image_splits" / "split.rc2.val.json", {"a": "./dev/a.png"})
    with pytest.raises(QueryError, match="no 'caption' in one of the records"):
        loaders.cirr(str(tmp_path))
    with pytest.raises(QueryError, match="unexpected content"):
        loaders.circo(written(tmp_path / "val.json", {"a": 1}))


# ------------------------------------------------------------------------------------------- answers held back


def test_a_test_split_without_answers_is_read_for_its_submission(tmp_path):
    record = {"pairid": 9, "reference": "a", "caption": "more  fur", "img_set": {"id": 1, "members": list("abcdef")}}
    written(tmp_path / "captions" / "cap.rc2.test1.json", [record])
    written(tmp_path / "image_splits" / "split.rc2.test1.json", {name: f"./test1/{name}.png" for name in "abcdefg"})
    cirr = loaders.cirr(str(tmp_path), split="test")
    assert not cirr.has_answers and cirr.protocol["split"] == "test1"
    made = submissions.submission(cirr, {"9": list("bcdefg")}, {"9": list("fedcb")})
    assert made == {
        "-recall": {"version": "rc2", "metric": "recall", "9": list("bcdefg")},
        "-recall_subset": {"version": "rc2", "metric": "recall_subset", "9": list("fed")},
    }
    circo = loaders.circo(
        written(
            tmp_path / "test.json", [{"id": 0, "reference_img_id": 1, "relative_caption": "x", "shared_concept": "y"}]
        )
    )
    assert not circo.has_answers
    with pytest.raises(UsageError, match="50 different pictures"):
        submissions.submission(circo, {"0": ["1", "2"]}, {})


def test_fashioniq_without_targets_has_no_union_and_submits_its_records_with_rankings(tmp_path):
    for category in CATEGORIES:
        written(tmp_path / "captions" / f"cap.{category}.test.json", [{"candidate": "A", "captions": ["x", "y."]}])
        written(tmp_path / "image_splits" / f"split.{category}.test.json", ["A", "B"])
    found = loaders.fashioniq(str(tmp_path), split="test")
    made = submissions.submission(found, {f"{category}/0": ["B", "A"] for category in CATEGORIES}, {})
    assert made["-dress"] == [{"candidate": "A", "captions": ["x", "y."], "ranking": ["B", "A"]}]
    with pytest.raises(UsageError, match="--gallery union"):
        loaders.fashioniq(str(tmp_path), split="test", gallery="union")


# --------------------------------------------------------------------------------------------- one's own queries


def test_own_queries_take_words_pictures_grades_exclusions_and_ids(tmp_path):
    lines = [
        {"text": "a dog", "relevant": ["a.jpg", "b.jpg"]},
        {"image": "q.jpg", "relevant": {"a.jpg": 2, "b.jpg": 0.5, "c.jpg": 0}, "id": "mine", "comment": "unread"},
        {"text": "red", "image": "q.jpg", "relevant": ["q.jpg"], "exclude": ["d.jpg"]},
    ]
    path = written(tmp_path / "own.jsonl", "\n\n".join(map(json.dumps, lines)))
    first, second, third = loaders.own(path).queries
    assert (first.id, first.texts, dict(first.relevant)) == ("1", ("a dog",), {"a.jpg": 1, "b.jpg": 1})
    assert (second.id, dict(second.relevant)) == ("mine", {"a.jpg": 2, "b.jpg": 0.5, "c.jpg": 0})
    assert second.exclude == {"q.jpg"}  # as `imgsearch query` leaves it out
    assert (third.id, third.exclude) == ("5", {"d.jpg"})  # it is relevant itself
    assert loaders.own(path, include_reference=True).queries[1].exclude == set()


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("[]", "not a JSON object"),
        ('{"text": "a"', "not a JSON object"),
        ('{"relevant": ["a.jpg"]}', "neither text nor image"),
        ('{"text": " ", "relevant": ["a.jpg"]}', "text is not a string"),
        ('{"text": 3, "relevant": ["a.jpg"]}', "text is not a string"),
        ('{"text": "a"}', "relevant is neither"),
        ('{"text": "a", "relevant": "a.jpg"}', "relevant is neither"),
        ('{"text": "a", "relevant": [1]}', "relevant is neither"),
        ('{"text": "a", "relevant": {"a.jpg": -1}}', "relevant is neither"),
        ('{"text": "a", "relevant": {"a.jpg": true}}', "relevant is neither"),
        ('{"text": "a", "relevant": {"a.jpg": NaN}}', "relevant is neither"),
        ('{"text": "a", "relevant": []}', "nothing is relevant"),
        ('{"text": "a", "relevant": {"a.jpg": 0}}', "nothing is relevant"),
        ('{"text": "a", "relevant": ["a.jpg"], "exclude": "a.jpg"}', "exclude is not a list"),
        ('{"text": "a", "relevant": ["a.jpg"], "exclude": ["a.jpg"]}', "a.jpg is relevant and excluded"),
        ('{"text": "a", "relevant": ["a.jpg"], "id": null}', "id is neither"),
    ],
)
def test_a_line_that_is_no_query_is_named_by_file_and_number(tmp_path, line, message):
    path = written(tmp_path / "own.jsonl", '{"text": "a dog", "relevant": ["a.jpg"]}\n' + line + "\n")
    with pytest.raises(QueryError) as refused:
        loaders.own(path)
    assert str(refused.value).startswith(f"{path}:2: {message}")
    assert "docs/evaluation.md" in refused.value.hint or "one object per line" in refused.value.hint


def test_own_queries_need_ids_of_their_own_and_a_line_at_least(tmp_path):
    line = '{"text": "a", "relevant": ["a.jpg"], "id": 1}\n'
    with pytest.raises(QueryError, match="the id 1 occurs twice"):
        loaders.own(written(tmp_path / "own.jsonl", line * 2))
    with pytest.raises(QueryError, match="no queries found"):
        loaders.own(written(tmp_path / "own.jsonl", "\n\n"))


# ------------------------------------------------------------------------------------- records of another kind


CIRR = {
    "pairid": 7,
    "reference": "a",
    "target_hard": "b",
    "caption": "more fur",
    "img_set": {"id": 1, "members": ["a", "b"]},
}
FASHION = {"candidate": "A", "target": "B", "captions": ["x", "y"]}
CIRCO = {
    "id": 3,
    "reference_img_id": 1,
    "target_img_id": 2,
    "gt_img_ids": [2, 5],
    "relative_caption": "x",
    "shared_concept": "y",
}


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"caption": None}, "caption is not a string"),
        ({"caption": ["more", "fur"]}, "caption is not a string"),
        ({"reference": 3}, "reference is not a string"),
        ({"target_hard": None}, "target_hard is not a string"),
        ({"pairid": None}, "pairid is neither a number nor a string"),
        ({"pairid": True}, "pairid is neither a number nor a string"),
        ({"img_set": {"members": "ab"}}, "members is not a list of strings"),
        ({"img_set": {"members": ["a", 3]}}, "members is not a list of strings"),
    ],
)
def test_a_cirr_record_with_a_field_of_another_kind_is_refused(tmp_path, changed, message):
    path = written(tmp_path / "captions" / "cap.rc2.val.json", [CIRR | changed])
    written(tmp_path / "image_splits" / "split.rc2.val.json", {"a": "./dev/a.png", "b": "./dev/b.png"})
    with pytest.raises(QueryError) as refused:
        loaders.cirr(str(tmp_path))
    assert str(refused.value).startswith(f"{path}: ") and message in str(refused.value)


@pytest.mark.parametrize("pictures", [[1], ["a"], {"a": 3}, {"a": None}])
def test_a_cirr_split_that_is_no_list_of_files_by_name_is_refused(tmp_path, pictures):
    written(tmp_path / "captions" / "cap.rc2.val.json", [CIRR])
    path = written(tmp_path / "image_splits" / "split.rc2.val.json", pictures)
    with pytest.raises(QueryError, match="unexpected content") as refused:
        loaders.cirr(str(tmp_path))
    assert str(refused.value).startswith(f"{path}: ")


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"captions": "xy"}, "captions is not a list of strings"),
        ({"captions": ["x", None]}, "captions is not a list of strings"),
        ({"captions": ["x"]}, "unexpected content"),
        ({"candidate": 3}, "candidate is not a string"),
        ({"target": None}, "target is not a string"),
    ],
)
def test_a_fashioniq_record_with_a_field_of_another_kind_is_refused(tmp_path, changed, message):
    for category in CATEGORIES:
        written(tmp_path / "captions" / f"cap.{category}.val.json", [FASHION])
        written(tmp_path / "image_splits" / f"split.{category}.val.json", ["A", "B"])
    assert len(loaders.fashioniq(str(tmp_path)).queries) == 3
    written(tmp_path / "captions" / "cap.shirt.val.json", [FASHION | changed])
    with pytest.raises(QueryError, match=message) as refused:
        loaders.fashioniq(str(tmp_path))
    assert "cap.shirt.val.json" in str(refused.value)


def test_a_fashioniq_split_of_numbers_is_refused(tmp_path):
    for category in CATEGORIES:
        written(tmp_path / "captions" / f"cap.{category}.val.json", [FASHION])
        written(tmp_path / "image_splits" / f"split.{category}.val.json", ["A", 3])
    with pytest.raises(QueryError, match=r"split.dress.val.json: .*the split is not a list of strings"):
        loaders.fashioniq(str(tmp_path))


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"relative_caption": None}, "relative_caption is not a string"),
        ({"relative_caption": ["x"]}, "relative_caption is not a string"),
        ({"gt_img_ids": "25"}, "gt_img_ids is not a list"),
        ({"gt_img_ids": None}, "gt_img_ids is not a list"),
        ({"gt_img_ids": [2, "b"]}, "unexpected content"),
        ({"reference_img_id": 1.5}, "reference_img_id is not a number"),
        ({"target_img_id": [2]}, "target_img_id is not a number"),
        ({"id": None}, "id is neither a number nor a string"),
        ({"shared_concept": 3}, "shared_concept is not a string"),
    ],
)
def test_a_circo_record_with_a_field_of_another_kind_is_refused(tmp_path, changed, message):
    path = written(tmp_path / "val.json", [CIRCO | changed])
    with pytest.raises(QueryError, match=message) as refused:
        loaders.circo(path, shared_concept="bge")
    assert str(refused.value).startswith(f"{path}: ")


def test_an_id_that_is_there_twice_is_named_with_its_file(tmp_path):
    path = written(tmp_path / "captions" / "cap.rc2.val.json", [CIRR, CIRR | {"pairid": "7"}])
    written(tmp_path / "image_splits" / "split.rc2.val.json", {"a": "./dev/a.png", "b": "./dev/b.png"})
    with pytest.raises(QueryError) as refused:
        loaders.cirr(str(tmp_path))
    assert str(refused.value) == f"{path}: the pairid 7 occurs twice"
    path = written(tmp_path / "val.json", [CIRCO, CIRCO])
    with pytest.raises(QueryError) as refused:
        loaders.circo(path)
    assert str(refused.value) == f"{path}: the id 3 occurs twice"


@pytest.mark.parametrize(
    "content",
    [
        {"images": [KARPATHY["images"][0], {"filename": "b.jpg", "split": 3, "sentences": []}]},
        {"images": [{"filename": 3, "split": "test", "sentences": []}]},
        {"images": [{"filename": "a.jpg", "split": "test", "sentences": [{"raw": None}]}]},
        {"images": [{"filename": "a.jpg", "filepath": 3, "split": "test", "sentences": []}]},
        {"images": [{"id": 1, "file_name": 3}], "annotations": []},
        {"images": [{"id": 1, "file_name": "a.jpg"}], "annotations": [{"image_id": 1, "caption": 3}]},
    ],
    ids="split filename raw filepath file_name caption".split(),
)
def test_captions_with_a_field_of_another_kind_are_refused(tmp_path, content):
    path = written(tmp_path / "captions.json", content)
    with pytest.raises(QueryError, match="is not a string") as refused:
        loaders.captions("coco", path)
    assert str(refused.value).startswith(f"{path}: ")


def test_splits_of_several_kinds_are_refused_before_one_that_is_not_there(tmp_path):
    mixed = {"images": [KARPATHY["images"][0], {"filename": "b.jpg", "split": 3, "sentences": []}]}
    with pytest.raises(QueryError, match="split is not a string"):
        loaders.captions("coco", written(tmp_path / "captions.json", mixed), split="val")


@pytest.mark.parametrize("content", [COCO, TABLE, TOKENS, LISTED], ids="coco table tokens listed".split())
def test_a_split_of_a_file_that_has_none_is_refused(tmp_path, content):
    path = written(tmp_path / "captions", content)
    with pytest.raises(UsageError, match="--split 'val': .*captions has no splits"):
        loaders.captions("flickr", path, split="val")


def test_a_circo_file_is_the_split_that_it_is_named_for(tmp_path):
    path = written(tmp_path / "test.json", [CIRCO])
    assert loaders.circo(path).protocol["split"] == "test"
    assert loaders.circo(path, split="test").protocol["split"] == "test"
    with pytest.raises(UsageError, match="--split 'val': .*test.json has no splits"):
        loaders.circo(path, split="val")


def test_lines_of_a_table_end_where_lines_end(tmp_path):
    path = tmp_path / "captions"
    path.write_text("a.jpg,a dog\u2028on a\x0cbeach\x85\nb.jpg,b\r\n", encoding="utf-8")
    found = loaders.captions("flickr", str(path)).captions
    assert found == {"a.jpg": ("a dog\u2028on a\x0cbeach",), "b.jpg": ("b",)}
