"""Recorded vectors of OpenAI's CLIP, replayed through the engine: real geometry without the weights."""

from __future__ import annotations

import numpy as np
import pytest

from imgsearch.core.indexing import indexer
from imgsearch.core.search.grammar import Query
from imgsearch.core.search.options import SearchOptions
from imgsearch.core.search.searcher import Searcher
from imgsearch.core.store.store import Store

from conftest import bench_module


@pytest.fixture(scope="module")
def quality():
    with bench_module("quality") as module:
        yield module


def test_captions_are_ranked_as_their_cosines_rank_them(quality, shared, tmp_path):
    """Nothing that composition, negatives, cuts or groups brought changes a plain question."""
    folder = str(shared / "clip-vectors")
    replay = quality.Replay(folder)
    captions = [line for line in quality.read_lines(f"{folder}/texts.jsonl") if line["file"]][::5]
    with Store.writing(str(tmp_path / "index"), create=True) as store:
        indexer.run(store, lambda: (replay, "{}"), indexer.IndexPlan((f"{folder}/images",), decode="fast"))
    with np.load(f"{folder}/vectors.npz") as recorded:
        recorded_images, recorded_texts = recorded["image"], recorded["text"]
    images = [line["file"] for line in quality.read_lines(f"{folder}/images.jsonl")]
    with Store.open(str(tmp_path / "index")) as store:
        queries = [Query(line["text"], text=line["text"]) for line in captions]
        answers = list(Searcher(store, lambda: replay).search_many(queries, SearchOptions(limit=20)))
    for line, hits in zip(captions, answers, strict=True):
        cosines = recorded_images @ recorded_texts[line["row"]]
        best = np.argsort(-cosines)[:20]
        assert [hit.path.partition("/images/")[2] for hit in hits] == [images[at] for at in best]
        assert [hit.score for hit in hits] == pytest.approx(cosines[best], abs=1e-6)
