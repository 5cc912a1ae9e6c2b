"""`imgsearch eval` as it is typed: figures beside plain numpy, protocols, submissions, comparisons, and bad input.

Pictures are small and random, in the names of the real annotation files where a test needs those.
"""

from __future__ import annotations

import errno
import json
import math
import os
import shutil
import signal
import threading
import unicodedata
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from imgsearch.core.evaluation import loaders, results, runs
from imgsearch.core.evaluation.metrics import metric_named
from imgsearch.core.search.options import SearchOptions
from imgsearch.core.store.store import Store

from conftest import IS_LONG
from pictures import noise

WORDS = ("a red dress", "two dogs on a beach", "a yellow banana", "a carton of milk", "a face", "the sea at night")


def draw(folder: Path, *names: str) -> Path:
    for seed, name in enumerate(names):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        noise(40, 32, seed=seed).resize((80, 64)).save(path)
    return folder


def written(path: Path, data: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(data if isinstance(data, str) else json.dumps(data))
    return path


def lines(path: Path, *records: dict) -> Path:
    return written(path, "".join(json.dumps(record) + "\n" for record in records))


class Vectors:
    """What the index holds, for numpy to compute with."""

    def __init__(self, index: Path, model) -> None:
        self._model = model
        with Store.open(str(index)) as store:
            view = store.view()
            places = store.catalog.places.of_slots(
                view.space.id, np.flatnonzero(view.slots.mask("image")).tolist(), include_offline=False
            )
            self.by_path = {place.path: np.array(view.rows[place.slot]) for place in places}

    def of(self, paths: list[str]):
        return np.stack([self.by_path[path] for path in paths])

    def text(self, *texts: str):
        total = self._model.embed_texts(texts).sum(axis=0)
        return total / np.linalg.norm(total)

    def ranked(self, query, paths: list[str]) -> list[str]:
        scores = self.of(paths) @ query.astype(np.float32)
        return [path for _, path in sorted(zip(-scores, paths, strict=True))]


def has_one_square(picture: Path) -> bool:
    """Whether it is no panorama, which has several vectors."""
    with Image.open(picture) as image:
        return max(image.size) <= 1.8 * min(image.size)


def mixed(picture, words, w: float = 0.8):
    total = (1 - w) * picture + w * words
    return total / np.linalg.norm(total)


def result(outcome) -> dict:
    assert outcome.code == 0, outcome.err
    (record,) = outcome.records
    return record


def values(record: dict) -> dict[str, float]:
    return {name: figure["value"] for name, figure in record["metrics"].items()}


# -------------------------------------------------------------------------------------------- text <-> picture


PHOTOS = 60 if IS_LONG else 25


def test_flickr_equals_a_plain_computation_to_the_last_digit(imgsearch, shared, tmp_path, model):
    lined = [json.loads(line) for line in (shared / "flickr8k-dev" / "captions.jsonl").read_text().splitlines()]
    records = [record for record in lined if has_one_square(shared / "flickr8k-dev" / "images" / record["file"])]
    records = records[:PHOTOS]
    images = tmp_path / "images"
    images.mkdir()
    for record in records:
        shutil.copy(shared / "flickr8k-dev" / "images" / record["file"], images)
    captions = lines(tmp_path / "captions.jsonl", *records)
    asked = ["eval", "flickr", "-a", captions, "--images", images, "-m", "builtin", "--index", tmp_path / "flickr"]
    found = values(result(imgsearch(*asked, "--metrics", "recall@1,recall@5,recall@10,mrr,median_rank", "--json")))

    vectors = Vectors(tmp_path / "flickr", model)
    pictures = vectors.of([str(images / record["file"]) for record in records])
    texts = model.embed_texts([caption for record in records for caption in record["captions"]])
    own = np.repeat(np.arange(PHOTOS), 5)
    scores = texts @ pictures.T
    right = scores[np.arange(5 * PHOTOS), own][:, None]
    ranks = {"t2i": 1 + (scores > right).sum(axis=1)}
    best = np.where(own[:, None] == np.arange(PHOTOS), scores, -2).max(axis=0)
    ranks["i2t"] = 1 + (scores > best).sum(axis=0)
    expected = {}
    for part, rank in ranks.items():
        expected |= {f"{part}/recall@{k}": float((rank <= k).mean()) for k in (1, 5, 10)}
        expected |= {f"{part}/mrr": float((1 / rank).mean()), f"{part}/median_rank": float(np.median(rank))}
    assert found == pytest.approx(expected, rel=1e-12)

    table = imgsearch(*asked).lines
    assert any(line.split()[:2] == ["t2i/recall@5", f"{100 * expected['t2i/recall@5']:.2f}"] for line in table)


@pytest.fixture
def small(tmp_path) -> tuple[Path, Path]:
    """Twelve pictures, and a captions file of six of them."""
    images = draw(tmp_path / "images", *(f"{n:02}.png" for n in range(12)))
    records = [{"file": f"{n:02}.png", "captions": [WORDS[n], f"{WORDS[n]} again"]} for n in range(6)]
    return images, lines(tmp_path / "captions.jsonl", *records)


def test_photos_that_are_none_of_the_gallery_enter_no_ranking(imgsearch, small, tmp_path):
    images, captions = small
    outcome = imgsearch(
        *("eval", "coco", "-a", captions, "--images", images, "-m", "builtin", "--index", tmp_path / "i"),
        *("--metrics", "recall@6,mrr", "--out", tmp_path / "run.json", "--json"),
    )
    found = result(outcome)
    assert found["metrics"]["t2i/recall@6"]["value"] == 1.0
    assert found["counts"] == {
        "queries": 12,
        "pictures_as_queries": 6,
        "gallery": 6,
        "missing_pictures": 0,
        "left_out_queries": 0,
    }
    queries = json.loads((tmp_path / "run.json").read_text())["queries"]
    rankings = [query["ranking"] for query in queries if query["part"] == "t2i"]
    assert all(sorted(ranking) == [f"{n:02}.png" for n in range(6)] for ranking in rankings)


def test_identical_pictures_are_ranked_each_on_its_own_by_path(imgsearch, tmp_path):
    images = draw(tmp_path / "images", "b.png")
    shutil.copy(images / "b.png", images / "a.png")
    shutil.copy(images / "b.png", images / "c.png")
    captions = lines(tmp_path / "c.jsonl", *({"file": f"{name}.png", "captions": ["noise"]} for name in "abc"))
    found = result(
        imgsearch(
            *("eval", "flickr", "-a", captions, "--images", images, "-m", "builtin", "--index", tmp_path / "i"),
            *("--metrics", "recall@1,mrr", "--out", tmp_path / "run.json", "--json"),
        )
    )
    queries = json.loads((tmp_path / "run.json").read_text())["queries"]
    assert [q["figures"]["mrr"] for q in queries if q["part"] == "t2i"] == [1, 1 / 2, 1 / 3]
    assert values(found)["t2i/recall@1"] == pytest.approx(1 / 3)


def test_missing_pictures_are_counted_and_named_and_left_out_only_on_demand(imgsearch, small, tmp_path):
    images, captions = small
    for name in ("01.png", "03.png"):
        (images / name).unlink()
    asked = ["eval", "coco", "-a", captions, "--images", images, "-m", "builtin", "--index", tmp_path / "i"]
    refused = imgsearch(*asked)
    assert refused.code == 2 and refused.out == b""
    assert "2 of 6 pictures that coco names are not in the index: 01.png, 03.png\n" in refused.err
    assert "--allow-missing" in refused.err
    allowed = imgsearch(*asked, "--allow-missing", "--json")
    assert allowed.code == 3
    counts = allowed.records[0]["counts"]
    assert (counts["gallery"], counts["missing_pictures"], counts["left_out_queries"]) == (4, 2, 4)
    assert "not comparable to any others" in imgsearch(*asked, "--allow-missing").out.decode()


def test_an_index_that_is_there_is_asked_and_not_made_again(imgsearch, small, tmp_path):
    images, captions = small
    assert imgsearch("index", images, "-m", "builtin", "--index", tmp_path / "i").code == 0
    asked = ["eval", "coco", "-a", captions, "--images", images, "--index", tmp_path / "i", "--json"]
    outcome = imgsearch(*asked)
    assert result(outcome)["model"] == "builtin" and "indexed 0 photos, 12 unchanged" in outcome.err
    other = imgsearch(*asked, "-m", "lite")
    assert other.code == 2 and "the index has model builtin, not lite" in other.err
    quiet = imgsearch(*asked, "--quiet")
    assert quiet.err == "" and quiet.records == outcome.records


def test_without_an_index_named_one_is_made_in_the_cache_and_said(imgsearch, small):
    images, captions = small
    outcome = imgsearch("eval", "coco", "-a", captions, "--images", images, "-m", "builtin", "--json")
    assert result(outcome)["counts"]["gallery"] == 6
    place = outcome.err.split("index of the pictures is ")[1].splitlines()[0]
    assert "/cache/imgsearch/eval/coco-" in place and place.endswith("-builtin") and Path(place).is_dir()


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)], ids="INT TERM HUP".split()
)
def test_indexing_that_is_interrupted_goes_on_with_the_same_command(
    imgsearch, small, tmp_path, monkeypatch, number, code
):
    before = signal.signal(number, signal.default_int_handler)  # not what started pytest has set, such as nohup
    images, captions = small
    asked = ["eval", "coco", "-a", captions, "--images", images, "-m", "builtin", "--index", tmp_path / "i", "--json"]

    pressed = []

    def interrupt(progress, event):
        if event.kind == "photo" and not pressed:
            pressed.append(event)
            signal.raise_signal(number)

    with monkeypatch.context() as patch:
        patch.setattr("imgsearch.cli.output.progress.Progress._step", interrupt)
        stopped = imgsearch(*asked)
    assert stopped.code == code and stopped.out == b"" and "run the same command again" in stopped.err
    assert signal.getsignal(number) is signal.default_int_handler
    signal.signal(number, before)
    again = imgsearch(*asked)
    assert result(again)["counts"]["gallery"] == 6 and "unchanged" in again.err


# ---------------------------------------------------------------------------------------- a picture plus a change


@pytest.fixture
def cirr(shared, tmp_path) -> Path:
    """The first queries of CIRR val that stay among the pictures of three sets, with random pictures."""
    real = shared / "annotations" / "cirr"
    records = json.loads((real / "captions" / "cap.rc2.val.json").read_text())
    sets = {record["img_set"]["id"]: record["img_set"]["members"] for record in records}
    chosen = list(sets)[:3]
    names = list(dict.fromkeys(name for number in chosen for name in sets[number]))
    files = json.loads((real / "image_splits" / "split.rc2.val.json").read_text())
    asked = [
        record
        for record in records
        if record["img_set"]["id"] in chosen and {record["reference"], record["target_hard"]} <= set(names)
    ]
    assert len(asked) > 10 and len(names) > 12
    draw(tmp_path / "cirr-images", *(files[name] for name in names), "dev/none-of-them.png")
    written(tmp_path / "cirr" / "captions" / "cap.rc2.val.json", asked)
    written(tmp_path / "cirr" / "image_splits" / "split.rc2.val.json", {name: files[name] for name in names})
    return tmp_path / "cirr"


def test_cirr_ranks_all_but_the_reference_and_submits(imgsearch, cirr, tmp_path, model):
    images = tmp_path / "cirr-images"
    outcome = imgsearch(
        *("eval", "cirr", "-a", cirr, "--images", images, "-m", "builtin", "--index", tmp_path / "i", "--json"),
        *("--compose", "lerp"),
        *("--metrics", "recall@1,recall@5,recall_subset@1,recall_subset@2", "--submission", tmp_path / "sent.json"),
    )
    found = result(outcome)
    assert (found["method"], found["weight"], found["hubness"]) == ("lerp", 0.8, False)
    assert found["protocol"]["reference"] == "taken out of every ranking"

    vectors = Vectors(tmp_path / "i", model)
    files = json.loads((cirr / "image_splits" / "split.rc2.val.json").read_text())
    paths = {name: str(images / file) for name, file in files.items()}
    names = {path: name for name, path in paths.items()}
    records = json.loads((cirr / "captions" / "cap.rc2.val.json").read_text())
    rankings, subsets = {}, {}
    for record in records:
        reference = paths[record["reference"]]
        query = mixed(vectors.by_path[reference], vectors.text(" ".join(record["caption"].split())))
        ranked = vectors.ranked(query, [path for path in names if path != reference])
        rankings[record["pairid"]] = [names[path] for path in ranked]
        subsets[record["pairid"]] = [n for n in rankings[record["pairid"]] if n in record["img_set"]["members"]]
    expected = {}
    for kind, source, ks in (("recall", rankings, (1, 5)), ("recall_subset", subsets, (1, 2))):
        for k in ks:
            hits = [record["target_hard"] in source[record["pairid"]][:k] for record in records]
            expected[f"{kind}@{k}"] = sum(hits) / len(hits)
    assert values(found) == pytest.approx(expected, rel=1e-12)

    sent = json.loads((tmp_path / "sent-recall.json").read_text())
    assert (sent.pop("version"), sent.pop("metric")) == ("rc2", "recall")
    assert sent == {str(pair): ranking[:50] for pair, ranking in rankings.items()}
    sent = json.loads((tmp_path / "sent-recall_subset.json").read_text())
    assert (sent.pop("version"), sent.pop("metric")) == ("rc2", "recall_subset")
    assert sent == {str(pair): ranking[:3] for pair, ranking in subsets.items()}


def test_cirr_without_answers_gives_submissions_and_no_figures(imgsearch, cirr, tmp_path):
    records = json.loads((cirr / "captions" / "cap.rc2.val.json").read_text())
    for record in records:
        del record["target_hard"], record["target_soft"]
    written(cirr / "captions" / "cap.rc2.test1.json", records)
    shutil.copy(cirr / "image_splits" / "split.rc2.val.json", cirr / "image_splits" / "split.rc2.test1.json")
    outcome = imgsearch(
        *("eval", "cirr", "-a", cirr, "--images", tmp_path / "cirr-images", "-m", "builtin", "--split", "test"),
        *("--index", tmp_path / "i", "--json", "--submission", tmp_path / "sent.json"),
    )
    assert result(outcome)["metrics"] == {}
    assert "answers of split test1 are not published" in outcome.err
    assert len(json.loads((tmp_path / "sent-recall.json").read_text())) == 2 + len(records)


@pytest.fixture
def fashion(shared, tmp_path) -> Path:
    """Four queries of each category, with random pictures and five more in each split."""
    real = shared / "annotations" / "fashion-iq"
    for category in loaders.CATEGORIES:
        asked = json.loads((real / "captions" / f"cap.{category}.val.json").read_text())[:4]
        named = dict.fromkeys(name for record in asked for name in (record["candidate"], record["target"]))
        more = [
            name
            for name in json.loads((real / "image_splits" / f"split.{category}.val.json").read_text())
            if name not in named
        ][:5]
        written(tmp_path / "fiq" / "captions" / f"cap.{category}.val.json", asked)
        written(tmp_path / "fiq" / "image_splits" / f"split.{category}.val.json", [*named, *more])
        draw(tmp_path / "fiq-images", *(f"{name}.png" for name in (*named, *more)))
    return tmp_path / "fiq"


@pytest.mark.parametrize(("gallery", "join"), [("original", "mean"), ("union", "comma")])
def test_fashioniq_by_category_with_the_reference_in_the_gallery(imgsearch, fashion, tmp_path, model, gallery, join):
    images = tmp_path / "fiq-images"
    found = result(
        imgsearch(
            *("eval", "fashioniq", "-a", fashion, "--images", images, "-m", "builtin", "--index", tmp_path / "i"),
            *("--compose", "lerp"),
            *("--gallery", gallery, "--join", join, "--metrics", "recall@1,recall@3", "--json"),
            *("--out", tmp_path / "run.json", "--submission", tmp_path / "sent.json"),
        )
    )
    assert (found["protocol"]["gallery"], found["protocol"]["join"]) == (gallery, join)

    vectors = Vectors(tmp_path / "i", model)
    expected, rankings = {}, {}
    for category in loaders.CATEGORIES:
        asked = json.loads((fashion / "captions" / f"cap.{category}.val.json").read_text())
        names = json.loads((fashion / "image_splits" / f"split.{category}.val.json").read_text())
        names = names[:-5] if gallery == "union" else names
        ranks = []
        for number, record in enumerate(asked):
            a, b = record["captions"]
            if join == "mean":
                a, b = a.strip(".?, "), b.strip(".?, ")
            texts = (f"{a} and {b}", f"{b} and {a}") if join == "mean" else (f"{a}, and {b}",)
            query = mixed(vectors.by_path[str(images / f"{record['candidate']}.png")], vectors.text(*texts))
            ranked = [Path(p).stem for p in vectors.ranked(query, [str(images / f"{name}.png") for name in names])]
            assert record["candidate"] in ranked
            rankings[f"{category}/{number}"] = ranked
            ranks.append(ranked.index(record["target"]) + 1)
        expected |= {f"{category}/recall@{k}": float(np.mean(np.array(ranks) <= k)) for k in (1, 3)}
    for k in (1, 3):
        expected[f"mean/recall@{k}"] = float(np.mean([expected[f"{c}/recall@{k}"] for c in loaders.CATEGORIES]))
    assert values(found) == pytest.approx(expected, rel=1e-12)
    queries = json.loads((tmp_path / "run.json").read_text())["queries"]
    assert {query["id"]: query["ranking"] for query in queries} == {n: r[:50] for n, r in rankings.items()}
    sent = json.loads((tmp_path / "sent-shirt.json").read_text())
    assert [record["ranking"] for record in sent] == [rankings[f"shirt/{n}"] for n in range(4)]


def test_circo_divides_by_what_could_be_found_and_submits_50_numbers(imgsearch, shared, tmp_path, model):
    records = json.loads((shared / "annotations" / "circo" / "annotations" / "val.json").read_text())[:6]
    named = {number for record in records for number in (record["reference_img_id"], *record["gt_img_ids"])}
    numbers = sorted(named | set(range(1, 60)))
    images = draw(tmp_path / "unlabeled2017", *(f"{number:012d}.jpg" for number in numbers), "not-of-coco.jpg")
    written(tmp_path / "circo" / "annotations" / "val.json", records)
    outcome = imgsearch(
        *("eval", "circo", "-a", tmp_path / "circo", "--images", images, "-m", "builtin", "--index", tmp_path / "i"),
        *("--metrics", "map@5,map@50,recall@25", "--submission", tmp_path / "sent.json", "--json"),
        *("--compose", "lerp"),
    )
    found = result(outcome)
    assert found["counts"]["gallery"] == len(numbers) and found["protocol"]["shared_concept"] == "none"

    vectors = Vectors(tmp_path / "i", model)
    sent = json.loads((tmp_path / "sent.json").read_text())
    precisions = {5: [], 50: []}
    hits = []
    for record in records:
        reference = vectors.by_path[str(images / f"{record['reference_img_id']:012d}.jpg")]
        query = mixed(reference, vectors.text(record["relative_caption"]))
        ranked = [int(Path(p).stem) for p in vectors.ranked(query, [str(images / f"{n:012d}.jpg") for n in numbers])]
        assert sent[str(record["id"])] == ranked[:50]
        hits.append(record["target_img_id"] in ranked[:25])
        for k, of_queries in precisions.items():
            total = seen = 0
            for rank, number in enumerate(ranked[:k], start=1):
                if number in record["gt_img_ids"]:
                    seen += 1
                    total += seen / rank
            of_queries.append(total / min(len(record["gt_img_ids"]), k))
    expected = {f"map@{k}": float(np.mean(each)) for k, each in precisions.items()}
    assert values(found) == pytest.approx(expected | {"recall@25": float(np.mean(hits))}, rel=1e-12)


def test_a_crafted_ranking_has_the_figures_that_a_hand_computes():
    """Right at ranks 2, 3 and 7 of four; the target is the one at 7."""
    question = loaders.BenchmarkQuery("q", ("x",), relevant=dict.fromkeys(("b", "c", "g", "z"), 1.0), target="g")
    plan = runs.EvalPlan(tuple(map(metric_named, ("map@5", "map@10", "recall@5", "recall@10"))), 3, SearchOptions())
    answer = runs.query_result(question, list("abcdefghij"), plan)
    assert answer.figures == pytest.approx(
        {
            "map@5": (1 / 2 + 2 / 3) / 4,
            "map@10": (1 / 2 + 2 / 3 + 3 / 7) / 4,
            "recall@5": 0.0,
            "recall@10": 1.0,
        }
    )
    assert answer.ranking == ("a", "b", "c")


# --------------------------------------------------------------------------------------------- one's own queries


@pytest.fixture
def own(photos, tmp_path) -> Path:
    return lines(
        tmp_path / "own.jsonl",
        {"text": "a yellow banana", "relevant": {"banana.jpg": 2, "lemon.jpg": 1}},
        {"image": "lemon.jpg", "relevant": ["banana.jpg"]},
        {"text": "in a carton", "image": "lemon.jpg", "relevant": ["oatly-oat-milk.jpg"], "exclude": ["carrots.jpg"]},
    )


def test_own_queries_search_the_existing_index_like_query(imgsearch, photos, own):
    assert imgsearch("index", photos, "-m", "builtin").code == 0
    outcome = imgsearch("eval", "jsonl", "-a", own, "--limit", "6", "--out", "run.json", "--json")
    found = result(outcome)
    queries = json.loads(Path("run.json").read_text())["queries"]
    asked = (["a yellow banana"], [photos / "lemon.jpg"], ["--image", photos / "lemon.jpg", "--text", "in a carton"])
    for query, words in zip(queries, asked, strict=True):
        hits = [Path(line).name for line in imgsearch("query", *words, "-l", "-n", "6").lines]
        assert query["ranking"] == [name for name in hits if (name, query["id"]) != ("carrots.jpg", "3")]
    rank = queries[1]["ranking"].index("banana.jpg") + 1
    assert queries[1]["figures"]["mrr"] == 1 / rank
    assert set(values(found)) == {
        *("hit_rate@1", "hit_rate@5", "hit_rate@10", "share_found@10", "precision@10"),
        *("mrr", "map@10", "ndcg@10", "median_rank"),
    }


def test_a_picture_asked_with_may_lie_beside_the_queries(imgsearch, photos, tmp_path):
    shutil.move(photos / "lemon.jpg", tmp_path / "asked.jpg")
    own = lines(tmp_path / "own.jsonl", {"image": "asked.jpg", "relevant": ["banana.jpg"]})
    found = result(imgsearch("eval", "jsonl", "-a", own, "--images", photos, "-m", "builtin", "--json"))
    assert found["counts"]["gallery"] == 5 and found["counts"]["queries"] == 1


def test_a_name_that_two_photos_have_is_refused(imgsearch, photos, tmp_path):
    for year in ("2020", "2021"):
        (photos / year).mkdir()
        shutil.copy(photos / "lemon.jpg", photos / year / "fruit.jpg")
    own = lines(tmp_path / "own.jsonl", {"text": "a", "relevant": ["fruit.jpg"]})
    refused = imgsearch("eval", "jsonl", "-a", own, "--images", photos, "-m", "builtin")
    assert refused.code == 2 and f"fruit.jpg may be {photos}/2020/fruit.jpg or" in refused.err
    own = lines(tmp_path / "own.jsonl", {"text": "a", "relevant": ["2021/fruit.jpg"]})
    assert imgsearch("eval", "jsonl", "-a", own, "--images", photos, "-m", "builtin").code == 0


# ----------------------------------------------------------------------------------------------------- comparing


def test_a_run_is_compared_with_another_query_by_query(imgsearch, photos, own):
    assert imgsearch("index", photos, "-m", "builtin").code == 0
    asked = ["eval", "jsonl", "-a", own, "--metrics", "mrr,median_rank"]
    assert imgsearch(*asked, "--weight", "0", "--out", "old.json").code == 0
    same = result(imgsearch(*asked, "--weight", "0", "--compare", "old.json", "--json"))
    nothing = {"difference": 0.0, "low": 0.0, "high": 0.0}
    assert same["compared"]["metrics"] == {"mrr": nothing, "median_rank": nothing}
    other = result(imgsearch(*asked, "--weight", "1", "--compare", "old.json", "--json"))
    old = json.loads(Path("old.json").read_text())
    difference = other["compared"]["metrics"]["mrr"]
    assert difference["difference"] == pytest.approx(values(other)["mrr"] - values(old)["mrr"])
    assert difference["low"] <= difference["difference"] <= difference["high"]
    assert other["compared"]["with"]["weight"] == 0 and other["compared"]["protocols_differ"] == []
    assert other["compared"]["with"] == {
        **{key: old[key] for key in ("benchmark", "protocol", "model", "method", "weight", "search", "hubness")},
        "gallery": 6,
    }
    table = imgsearch(*asked, "--compare", "old.json").out.decode()
    assert "difference" in table and "compared with builtin, restyle, weight 0.0, exact\n" in table


def test_a_protocol_that_differs_is_said(imgsearch, photos, own):
    assert imgsearch("index", photos, "-m", "builtin").code == 0
    asked = ["eval", "jsonl", "-a", own, "--metrics", "mrr"]
    assert imgsearch(*asked, "--out", "old.json").code == 0
    found = result(imgsearch(*asked, "--include-reference", "--compare", "old.json", "--json"))
    assert found["compared"]["protocols_differ"] == ["reference"]


def test_runs_of_other_queries_or_metrics_and_files_that_are_none_are_refused(imgsearch, photos, own, tmp_path):
    assert imgsearch("index", photos, "-m", "builtin").code == 0
    asked = ["eval", "jsonl", "-a", own, "--metrics", "mrr"]
    assert imgsearch(*asked, "--out", "old.json").code == 0
    fewer = lines(tmp_path / "fewer.jsonl", {"text": "a yellow banana", "relevant": ["banana.jpg"]})
    for changed, message in (
        (["eval", "jsonl", "-a", fewer, "--compare", "old.json"], "old.json: a run of other queries (jsonl)"),
        (["eval", "jsonl", "-a", own, "--metrics", "map@3", "--compare", "old.json"], "old.json: no metric in common"),
        ([*asked, "--compare", "nowhere.json"], "nowhere.json: no such file"),
        ([*asked, "--compare", own], "own.jsonl: not a run"),
    ):
        refused = imgsearch(*changed)
        assert refused.code == 2 and message in refused.err and refused.out == b"", refused.err


# ------------------------------------------------------------------------------------------------------- methods


def test_one_table_has_what_each_method_gives_alone_and_its_difference_from_lerp(imgsearch, tmp_path):
    images = draw(tmp_path / "images", *(f"{n:02}.png" for n in range(9)))
    own = lines(
        tmp_path / "own.jsonl",
        *(
            {"text": WORDS[n], "image": f"{n:02}.png", "relevant": [f"{n + 3:02}.png"], "group": f"group {n % 2}"}
            for n in range(5)
        ),
        {"text": "as a pencil sketch", "image": "05.png", "relevant": ["08.png"]},
    )
    asked = ["eval", "jsonl", "-a", own, "--images", images, "-m", "builtin", "--index", tmp_path / "i"]
    asked += ["--metrics", "mrr,recall@3"]
    record = result(imgsearch(*asked, "--methods", "all", "--json"))
    rows = {row["method"]: row for row in record["methods"]}
    names = {"lerp", "restyle", "scaled", "and", "slerp", "add", "product", "weicom", "basic", "basic-style"}
    assert set(rows) == {*names, "words only", "picture only"} and "method" not in record
    assert record["methods"][0]["method"] == "lerp" and record["methods"][0]["minus_lerp"] == {}
    figures = [row["metrics"]["mrr"]["value"] for row in record["methods"][1:]]
    assert figures == sorted(figures, reverse=True)

    run = tmp_path / "lerp.json"
    for weight in (0.1, 0.4, 0.9, rows["lerp"]["weight"]):
        lerp = result(imgsearch(*asked, "--compose", "lerp", "--weight", str(weight), "--out", run, "--json"))
        assert lerp["metrics"]["mrr"]["value"] <= rows["lerp"]["metrics"]["mrr"]["value"]
    assert lerp["metrics"] == rows["lerp"]["metrics"]
    for name in ("restyle", "scaled", "basic"):  # at their own weights
        alone = result(imgsearch(*asked, "--compose", name, "--compare", run, "--json"))
        assert alone["metrics"] == rows[name]["metrics"]
        assert alone["compared"]["metrics"] == rows[name]["minus_lerp"]
    for name, weight in (("words only", 1), ("picture only", 0)):
        assert result(imgsearch(*asked, "--weight", str(weight), "--json"))["metrics"] == rows[name]["metrics"]
    assert all(row["milliseconds"] > 0 for row in rows.values())

    table = imgsearch(*asked, "--methods", "scaled,lerp").lines
    shown = [line.split()[0] for line in table[table.index("") + 2 :] if line]
    assert shown[0] == "lerp" and set(shown[1:4]) == {"scaled", "words", "picture"}
    assert f"{100 * rows['scaled']['metrics']['mrr']['value']:.2f}" in next(x for x in table if x.startswith("scaled"))


# ------------------------------------------------------------------------------------------------------- manners


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "no benchmark given"),
        (["flickr"], "flickr needs --annotations"),
        (["flickr", "-a", "c.jsonl"], "flickr needs --images"),
        (["flickr", "-a", "nowhere.json", "--images", "."], "nowhere.json: no such file"),
        (["flickr", "-a", "c.jsonl", "--images", "nowhere"], "nowhere: no such folder"),
        (["flickr", "-a", "c.jsonl", "--images", ".", "--join", "and"], "--join is not an option of flickr"),
        (["flickr", "-a", "c.jsonl", "--images", ".", "--compose", "and"], "--compose: no query of flickr combines"),
        (["flickr", "-a", "c.jsonl", "--images", ".", "--metrics", "bleu"], "no metric 'bleu'"),
        (["flickr", "-a", "c.jsonl", "--images", ".", "--metrics", ","], "--metrics is empty"),
        (["flickr", "-a", "c.jsonl", "--images", ".", "--metrics", "recall_subset@1"], "only cirr has the metric"),
        (["flickr", "-a", "c.jsonl", "--images", ".", "--out", "no/run.json"], "no/run.json: cannot write to"),
        (["flickr", "-a", "c.jsonl", "--images", ".", "--submission", "s.json"], "no server to submit to"),
        (["imagenet", "-a", "c.jsonl"], "'imagenet' is not one of"),
        (["jsonl", "-a", "own.jsonl", "--compose", "magic"], "'magic' is not one of"),
        (["jsonl", "-a", "own.jsonl", "--split", "val"], "--split is not an option of jsonl"),
        (["jsonl", "-a", "own.jsonl", "--weight", "2"], "--weight"),
        (["jsonl", "-a", "own.jsonl", "--weight", "nan"], "--weight nan is not between 0 and 1"),
        (["jsonl", "-a", "own.jsonl", "--methods", "lerp,magic"], "no composition method 'magic'"),
        (["jsonl", "-a", "own.jsonl", "--methods", "pdv"], "--methods: pdv needs a starting text"),
        (["jsonl", "-a", "own.jsonl", "--methods", ","], "--methods is empty"),
        (["jsonl", "-a", "own.jsonl", "--methods", "all", "--weight", "0.5"], "--methods cannot be combined with"),
        (["flickr", "-a", "c.jsonl", "--images", ".", "--methods", "all"], "--methods: no query of flickr combines"),
        (["jsonl", "-a", "own.jsonl", "--out", "."], ".: is a folder"),
        (["jsonl", "-a", "own.jsonl", "--out", "own.jsonl"], "own.jsonl: is also the file of --annotations"),
        (["jsonl", "-a", "./own.jsonl", "--out", "link.jsonl"], "link.jsonl: is also the file of --annotations"),
        (["circo", "-a", "val.json", "--submission", "val.json"], "val.json: is also the file of --annotations"),
        (["circo", "-a", "val.json", "--submission", "s", "--out", "s.json"], "s.json: is also another result"),
        (["flickr", "-a", "c.jsonl", "--images", ".", "--prompt", ""], "needs exactly one {}, where the caption goes"),
        (["flickr", "-a", "c.jsonl", "--images", ".", "--split", "val"], "c.jsonl has no splits"),
    ],
)
def test_wrong_usage_is_said_before_any_work_with_what_to_do(imgsearch, tmp_path, arguments, message):
    lines(tmp_path / "c.jsonl", {"file": "a.jpg", "captions": ["a"]})
    lines(tmp_path / "own.jsonl", {"text": "a", "image": "a.jpg", "relevant": ["b.jpg"]})
    (tmp_path / "link.jsonl").symlink_to("own.jsonl")
    written(tmp_path / "val.json", [{"id": 0, "reference_img_id": 1, "relative_caption": "x"}])
    outcome = imgsearch("eval", *arguments, "--index", tmp_path / "i")
    assert outcome.code == 2 and outcome.out == b""
    first, second = outcome.err.splitlines()
    assert first.startswith("imgsearch: ") and message in first.lower() and second.startswith("  ")
    assert not (tmp_path / "i").exists()


def test_infinite_ranks_are_null_in_json():
    """With graphs, a photo that is looked for may never come."""
    measures = (metric_named("median_rank"), metric_named("mrr"))
    figures = {"median_rank": math.inf, "mrr": 0.0}
    run = results.Run({"counts": {"gallery": 3}}, measures, (runs.QueryResult("1", "", "1", figures, ()),))
    record = json.loads(json.dumps(run.file(), allow_nan=False))
    assert record["metrics"]["median_rank"] == {"value": None, "low": None, "high": None}
    assert record["queries"][0]["figures"] == {"median_rank": None, "mrr": 0.0}


# ------------------------------------------------------------------------------------------ what a run is held to


@pytest.mark.parametrize(
    "changed",
    [
        {"text": "a green banana"},
        {"image": "carrots.jpg"},
        {"exclude": ["carrots.jpg"]},
        {"relevant": ["lemon.jpg"]},
        {"relevant": {"banana.jpg": 2}},
    ],
    ids="text image exclude relevant grade".split(),
)
def test_a_query_that_changed_under_its_id_is_another_query(imgsearch, photos, tmp_path, changed):
    assert imgsearch("index", photos, "-m", "builtin").code == 0
    query = {"text": "a banana", "image": "oatly-oat-milk.jpg", "relevant": ["banana.jpg"], "id": "same"}
    own = lines(tmp_path / "own.jsonl", query)
    asked = ["eval", "jsonl", "-a", own, "--metrics", "mrr"]
    assert imgsearch(*asked, "--out", "old.json").code == 0
    assert imgsearch(*asked, "--compare", "old.json").code == 0
    lines(own, query | changed)
    refused = imgsearch(*asked, "--compare", "old.json")
    assert refused.code == 2 and "old.json: a run of other queries (jsonl)" in refused.err


def test_a_gallery_of_another_size_is_said(imgsearch, photos, own):
    asked = ["eval", "jsonl", "-a", own, "--images", photos, "-m", "builtin", "--metrics", "mrr", "--json"]
    assert result(imgsearch(*asked, "--out", "old.json"))["counts"]["gallery"] == 6
    noise(40, 32, seed=1).save(photos / "more.png")
    compared = result(imgsearch(*asked, "--compare", "old.json"))["compared"]
    assert compared["protocols_differ"] == ["gallery"] and compared["with"]["gallery"] == 6


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda run: run.update(protocol=None), "not a run"),
        (lambda run: run["counts"].update(gallery=None), "not a run"),
        (lambda run: run.update(queries=None), "not a run"),
        (lambda run: run.update(weight=math.nan), "not a run"),
        (lambda run: run["queries"][0]["figures"].update(mrr=math.nan), "not a run"),
        (lambda run: run["queries"][0]["figures"].update(mrr=math.inf), "not a run"),
        (lambda run: run["queries"][0]["figures"].update(mrr=10**400), "not a run"),
        (lambda run: run["queries"][0]["figures"].update(mrr="1"), "not a run"),
        (lambda run: run["queries"][0]["figures"].update(mrr=True), "not a run"),
        (lambda run: run["queries"][0]["figures"].update(mrr=None), "not a run"),
        (lambda run: run["queries"].pop(), "its queries do not match"),
        (lambda run: run["queries"][0].update(id="x"), "its queries do not match"),
        (lambda run: run["queries"][0].update(group="x"), "its queries do not match"),
        (lambda run: run["queries"][0].update(part="x"), "its queries do not match"),
    ],
)
def test_a_run_that_was_changed_by_hand_is_refused(imgsearch, photos, own, change, message):
    assert imgsearch("index", photos, "-m", "builtin").code == 0
    asked = ["eval", "jsonl", "-a", own, "--metrics", "mrr"]
    assert imgsearch(*asked, "--out", "old.json").code == 0
    run = json.loads(Path("old.json").read_text())
    change(run)
    written(Path("old.json"), run)
    refused = imgsearch(*asked, "--compare", "old.json", "--json")
    assert refused.code == 2 and f"old.json: {message}" in refused.err and refused.out == b""


def test_a_number_too_large_for_json_is_no_figure(imgsearch, photos, own):
    assert imgsearch("index", photos, "-m", "builtin").code == 0
    asked = ["eval", "jsonl", "-a", own, "--metrics", "mrr"]
    assert imgsearch(*asked, "--out", "old.json").code == 0
    text = Path("old.json").read_text()
    assert '"weight": 0.5' in text
    written(Path("old.json"), text.replace('"weight": 0.5', '"weight": 1e999'))
    refused = imgsearch(*asked, "--compare", "old.json", "--json")
    assert refused.code == 2 and "old.json: not a run" in refused.err


def test_whole_pictures_are_drawn_for_the_interval():
    """Fifty captions of one picture that are all found and fifty of another that are not say no more than two."""
    answers = tuple(
        runs.QueryResult(f"{group}{number}", "", group, {"recall@1": figure}, ())
        for group, figure in (("a", 0.0), ("b", 1.0))
        for number in range(50)
    )
    run = results.Run({"counts": {"gallery": 2}}, (metric_named("recall@1"),), answers)
    assert tuple(run.intervals["recall@1"]) == (0.5, 0.0, 1.0)


# ----------------------------------------------------------------------------------------------- files of results


def test_an_old_run_outlives_a_disk_that_fills_up(imgsearch, photos, own, monkeypatch):
    assert imgsearch("index", photos, "-m", "builtin").code == 0
    written(Path("run.json"), "the old one")
    before = sorted(os.listdir())

    def full(descriptor):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr("imgsearch.cli.commands.eval.os.fsync", full)
        outcome = imgsearch("eval", "jsonl", "-a", own, "--metrics", "mrr", "--out", "run.json", "--json")
    assert outcome.code == 2 and "run.json: no space left on device" in outcome.err
    assert "mrr" in outcome.records[0]["metrics"]  # what was computed is not lost
    assert Path("run.json").read_text() == "the old one" and sorted(os.listdir()) == before


def test_a_result_keeps_the_mode_and_the_link_that_were_there(imgsearch, photos, own, tmp_path):
    assert imgsearch("index", photos, "-m", "builtin").code == 0
    written(tmp_path / "kept.json", "").chmod(0o640)
    Path("run.json").symlink_to("kept.json")
    assert imgsearch("eval", "jsonl", "-a", own, "--metrics", "mrr", "--out", "run.json").code == 0
    assert Path("run.json").is_symlink() and "queries" in json.loads((tmp_path / "kept.json").read_text())
    assert (tmp_path / "kept.json").stat().st_mode & 0o777 == 0o640


def test_a_result_goes_into_a_pipe_as_it_is(imgsearch, photos, own):
    assert imgsearch("index", photos, "-m", "builtin").code == 0
    os.mkfifo("pipe")
    read: list[str] = []
    reader = threading.Thread(target=lambda: read.append(Path("pipe").read_text()), daemon=True)
    reader.start()
    assert imgsearch("eval", "jsonl", "-a", own, "--metrics", "mrr", "--out", "pipe").code == 0
    reader.join(10)
    assert len(json.loads(read[0])["queries"]) == 3 and Path("pipe").is_fifo()


def test_a_reader_that_has_gone_away_takes_no_file_along(imgsearch, photos, own, monkeypatch):
    assert imgsearch("index", photos, "-m", "builtin").code == 0

    def gone(*_):
        raise BrokenPipeError(errno.EPIPE, os.strerror(errno.EPIPE))

    monkeypatch.setattr("imgsearch.cli.output.render.emit", gone)
    monkeypatch.setattr("imgsearch.cli.output.render.leave_quietly", lambda: None)
    imgsearch("eval", "jsonl", "-a", own, "--metrics", "mrr", "--out", "run.json")
    assert len(json.loads(Path("run.json").read_text())["queries"]) == 3


def test_a_file_that_may_not_be_written_is_refused_before_any_work(imgsearch, photos, own, monkeypatch):
    may = os.access
    written(Path("run.json"), "")
    monkeypatch.setattr(os, "access", lambda path, mode: not str(path).endswith("run.json") and may(path, mode))
    refused = imgsearch("eval", "jsonl", "-a", own, "--images", photos, "--out", "run.json", "--index", "i")
    assert refused.code == 2 and "run.json: not writable" in refused.err and not Path("i").exists()


# ------------------------------------------------------------------------------------- pictures, and how deep to look


def test_a_number_that_two_photos_have_is_refused(imgsearch, tmp_path):
    images = draw(tmp_path / "images", "000000000001.jpg", "a/1.png", "000000000002.jpg")
    record = {"id": 0, "reference_img_id": 1, "target_img_id": 2, "gt_img_ids": [2], "relative_caption": "x"}
    annotations = written(tmp_path / "val.json", [record])
    refused = imgsearch("eval", "circo", "-a", annotations, "--images", images, "-m", "builtin")
    assert refused.code == 2 and "are both picture 1\n" in refused.err


def test_a_missing_picture_of_grade_0_drops_no_query(imgsearch, photos, tmp_path):
    own = lines(tmp_path / "own.jsonl", {"text": "a", "relevant": {"lemon.jpg": 1, "nowhere.jpg": 0}})
    asked = ["eval", "jsonl", "-a", own, "--images", photos, "-m", "builtin", "--allow-missing", "--json"]
    outcome = imgsearch(*asked)
    assert outcome.code == 3
    counts = outcome.records[0]["counts"]
    assert (counts["queries"], counts["missing_pictures"], counts["left_out_queries"]) == (1, 1, 0)


@pytest.mark.parametrize(("typed", "there"), [("NFC", "NFD"), ("NFD", "NFC")])
def test_an_accent_is_found_however_the_disk_spells_it(imgsearch, photos, tmp_path, typed, there):
    there, typed = (unicodedata.normalize(form, "café/crème.jpg") for form in (there, typed))
    (photos / there).parent.mkdir()
    shutil.move(photos / "lemon.jpg", photos / there)
    shutil.move(photos / "banana.jpg", tmp_path / Path(there).name.replace("cr", "br"))
    beside = Path(typed).name.replace("cr", "br")
    own = lines(tmp_path / "own.jsonl", {"image": beside, "relevant": [typed]})
    found = result(imgsearch("eval", "jsonl", "-a", own, "--images", photos, "-m", "builtin", "--json"))
    assert found["counts"]["missing_pictures"] == 0


def test_of_two_spellings_on_disk_the_one_that_was_typed_is_meant(imgsearch, photos, tmp_path):
    for form in ("NFC", "NFD"):
        shutil.copy(photos / "lemon.jpg", photos / unicodedata.normalize(form, "crème.jpg"))
    if len(os.listdir(photos)) < 8:
        pytest.skip("one name on this disk")
    own = lines(tmp_path / "own.jsonl", {"text": "a", "relevant": [unicodedata.normalize("NFD", "crème.jpg")]})
    assert imgsearch("eval", "jsonl", "-a", own, "--images", photos, "-m", "builtin").code == 0


@pytest.fixture
def looks(monkeypatch) -> list[SearchOptions]:
    """How each look at the index was meant."""
    seen = []
    search = runs.Searcher.search_many
    monkeypatch.setattr(
        runs.Searcher, "search_many", lambda self, asked, options: seen.append(options) or search(self, asked, options)
    )
    return seen


def test_ann_uses_the_graphs_and_exact_does_not(imgsearch, photos, own, looks):
    assert imgsearch("index", photos, "-m", "builtin").code == 0
    for option, strategy in (("--ann", "ann"), ("--exact", "exact")):
        looks.clear()
        found = result(imgsearch("eval", "jsonl", "-a", own, option, "--json"))
        assert found["search"] == strategy and {options.strategy for options in looks} == {strategy}


def test_a_deeper_search_runs_only_to_find_the_rest_of_a_set(imgsearch, cirr, tmp_path, monkeypatch, looks):
    asked = ["eval", "cirr", "-a", cirr, "--images", tmp_path / "cirr-images", "-m", "builtin", "--json"]
    whole = values(result(imgsearch(*asked, "--metrics", "recall_subset@1,recall_subset@2,recall@1")))
    monkeypatch.setattr(runs, "SPARE", 2)
    monkeypatch.setattr(runs, "DEEPER", 2)
    looks.clear()
    assert values(result(imgsearch(*asked, "--metrics", "recall_subset@1,recall_subset@2,recall@1"))) == whole
    assert len({options.limit for options in looks}) > 1
    looks.clear()
    assert values(result(imgsearch(*asked, "--metrics", "recall@1"))) == {"recall@1": whole["recall@1"]}
    assert len({options.limit for options in looks}) == 1
    looks.clear()
    assert imgsearch(*asked, "--metrics", "recall@1", "--submission", tmp_path / "sent.json").code == 0
    sent = json.loads((tmp_path / "sent-recall_subset.json").read_text())
    assert all(len(names) == 3 for pair, names in sent.items() if pair.isdigit())
