"""The whole way, from files to answers, on the test material that may not be committed."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest

from imgsearch.core.compose.caption_triplets import triplets
from imgsearch.core.evaluation import metrics
from imgsearch.core.models import registry
from imgsearch.core.search.grammar import explicit
from imgsearch.core.search.options import SearchOptions
from imgsearch.core.search.searcher import Searcher
from imgsearch.core.store.store import Store

from conftest import IS_LONG

ONE_CAPTION = 1 if IS_LONG else 5
"""Of the five captions of each photo, those that the graphs are asked too."""


def vectors_by_name(index: Path) -> dict[str, np.ndarray]:
    with Store.open(str(index)) as store:
        view = store.view()
        slots = np.flatnonzero(view.slots.mask("image")).tolist()
        places = store.catalog.places.of_slots(view.space.id, slots, include_offline=False)
        return {
            os.fsencode(place.relpath).decode("utf-8", "replace"): np.array(view.rows[place.slot]) for place in places
        }


def test_text_to_image_recall_is_what_the_model_card_states_and_hnsw_agrees(
    imgsearch, shared, tmp_path, model, monkeypatch
):
    monkeypatch.setenv("IMGSEARCH_HNSW_SLOTS", "900")  # one graph of a realistic size, and a tail without
    flickr = shared / "flickr8k-dev"
    assert imgsearch("index", flickr / "images", "--model", "builtin", "-q").code == 0
    rows = [json.loads(line) for line in (flickr / "captions.jsonl").read_text().splitlines()]
    captions = [(caption, row["file"]) for row in rows for caption in row["captions"]]
    queries = [explicit(caption, ()) for caption, _ in captions]
    relevant = [{file} for _, file in captions]
    rankings = {}
    with Store.open(str(tmp_path / "index")) as store:
        searcher = Searcher(store, lambda: model)
        for strategy, asked in (("exact", queries), ("ann", queries[::ONE_CAPTION])):
            found = searcher.search_many(asked, SearchOptions(strategy=strategy))
            rankings[strategy] = [[os.path.basename(hit.path) for hit in hits] for hits in found]
    card = {1: 0.260, 5: 0.553, 10: 0.686}
    for k, stated in card.items():
        recall = metrics.recall_at_k(rankings["exact"], relevant, k)
        assert recall == pytest.approx(stated, abs=0.01), k
    exact = rankings["exact"][::ONE_CAPTION]
    agreement = np.mean([len(set(a) & set(b)) / 10 for a, b in zip(exact, rankings["ann"], strict=True)])
    assert agreement >= 0.99
    assert 0.03 < share_found_by_words_of_triplets(flickr, tmp_path / "index", model) < 0.10


def share_found_by_words_of_triplets(flickr, index, model) -> float:
    """How often the change alone finds the wanted photo of triplets from captions, the reference left out."""
    rows = [json.loads(row) for row in (flickr / "captions.jsonl").read_text().splitlines()]
    asked = triplets([row["captions"] for row in rows])
    with Store.open(str(index)) as store:
        searcher = Searcher(store, lambda: model)
        found = searcher.search_many([explicit(each.change, ()) for each in asked], SearchOptions(limit=2))
        names = [[os.path.basename(hit.path) for hit in hits] for hits in found]
    first = [
        next(name for name in ranking if name != rows[each.reference]["file"])
        for each, ranking in zip(asked, names, strict=True)
    ]
    return float(np.mean([name == rows[each.target]["file"] for each, name in zip(asked, first, strict=True)]))


def test_every_file_of_the_torture_set_is_indexed_or_accounted_for(imgsearch, shared, tmp_path):
    pytest.importorskip("rawpy")
    pytest.importorskip("pillow_jxl")
    torture = shared / "torture"
    outcome = imgsearch("index", torture, "--model", "builtin")
    assert outcome.code == 3 and "Traceback" not in outcome.err
    indexed = set(vectors_by_name(tmp_path / "index"))
    damaged = {r["path"] for r in imgsearch("failures", "--all", "--json").records if r.get("is_damaged")}
    failed = {r["path"]: r for r in imgsearch("failures", "--json").records}
    for line in (torture / "manifest.jsonl").read_text().splitlines():
        row = json.loads(line)
        path = str(torture / row["file"])
        if row["decodes"]:
            assert row["file"] in indexed, row["file"]
        elif row["file"].endswith("README"):  # neither looks nor claims to be a picture
            assert path not in failed
        elif path in damaged:  # a part of it can be shown
            assert row["file"] in indexed and path not in failed
        else:
            assert failed[path]["stage"] in ("read", "decode") and failed[path]["reason"], row["file"]
    again = imgsearch("index")
    assert again.code == 0 and f"{len(failed)} known to fail" in again.err and "indexed 0 photos" in again.err


def test_a_scene_gives_one_vector_whichever_way_the_camera_was_held(imgsearch, tmp_path):
    from PIL import Image

    from pictures import exif_block, laid_down

    scene = tmp_path / "scene"
    scene.mkdir()
    with Image.open(Path(__file__).parent / "album" / "leek.jpg") as image:
        for orientation in range(1, 9):
            exif = exif_block(main={0x0112: orientation})
            laid_down(image, orientation).save(scene / f"{orientation}.jpg", quality=92, exif=exif)
    assert imgsearch("index", scene, "--model", "builtin", "-q").code == 0
    rows = np.stack(list(vectors_by_name(tmp_path / "index").values()))
    assert len(rows) == 8 and float((rows @ rows.T).min()) >= 0.98


def test_real_scenes_in_all_orientations_agree_but_for_the_digit_drawn_on_each(shared, model):
    """Each file of these scenes has its own number drawn in the middle, which moves this model's vector by itself."""
    from imgsearch.core.photos.decode import read_picture
    from imgsearch.core.photos.preprocess import draft_side, square

    for scene in ("Landscape", "Portrait"):
        squares = []
        for path in sorted((shared / "torture" / "orientation").glob(f"{scene}_*")):
            pixels = square(read_picture(str(path), draft_side=draft_side(model.recipe)).image, model.recipe)
            middle = slice(3 * len(pixels) // 8, 5 * len(pixels) // 8)
            pixels[middle, middle] = 128
            squares.append(pixels)
        rows = model.embed_images(np.stack(squares))
        assert len(rows) >= 4 and float((rows @ rows.T).min()) >= 0.98, scene


def test_fast_decoding_keeps_the_meaning_of_photos(imgsearch, shared, tmp_path):
    source = shared / "torture"
    photos = tmp_path / "photos"
    photos.mkdir()
    for folder in ("orientation", "exif_gps", "exif_hdr", "exif_misc", "cmyk", "mpo"):
        for path in (source / folder).iterdir():
            shutil.copy(path, photos / f"{folder}-{path.name}")
    vectors = {}
    for decode in ("fast", "exact"):
        index = tmp_path / decode
        imgsearch("index", photos, "--model", "builtin", "-q", "--decode", decode, "--index", index)
        vectors[decode] = vectors_by_name(index)
    assert vectors["fast"].keys() == vectors["exact"].keys() and len(vectors["fast"]) > 25
    for name, fast in vectors["fast"].items():
        assert float(fast @ vectors["exact"][name]) >= 0.99, name


def test_a_checkpoint_of_any_architecture_goes_the_same_way_as_real_weights(imgsearch, photos, tmp_path):
    import open_clip
    import torch

    torch.manual_seed(1)
    made = open_clip.create_model("ViT-S-32-alt")
    checkpoint = tmp_path / "random.pt"
    torch.save({"state_dict": made.state_dict()}, checkpoint)
    outcome = imgsearch("index", photos, "--model", "ViT-S-32-alt", "--weights", checkpoint, "--precision", "fp32")
    assert outcome.code == 0, outcome.err
    (status,) = imgsearch("status", "--json").records
    assert status["photos"] == 6 and status["dim"] == 256 and status["hnsw_covers_all"]
    hits = imgsearch("query", "anything at all", "--json").records
    assert len(hits) == 6
    # the same numbers as open_clip alone
    from open_clip.transform import PreprocessCfg, image_transform_v2
    from PIL import Image

    made.eval()
    transform = image_transform_v2(PreprocessCfg(**made.visual.preprocess_cfg), is_train=False)
    tokens = open_clip.get_tokenizer("ViT-S-32-alt")(["anything at all"])
    with torch.inference_mode(), Image.open(hits[0]["path"]) as image:
        pixels = transform(image.convert("RGB"))[None]
        cosine = torch.nn.functional.cosine_similarity(made.encode_image(pixels), made.encode_text(tokens))
    assert hits[0]["score"] == pytest.approx(float(cosine), abs=1e-4)


def test_an_index_refuses_a_model_whose_weights_were_swapped(imgsearch, photos, tmp_path):
    copy = tmp_path / "model"
    shutil.copytree(Path(registry.__file__).parent / "builtin_model", copy)
    assert imgsearch("index", photos, "--model", f"local-dir:{copy}").code == 0
    assert imgsearch("query", "a lemon").code == 0
    from safetensors.torch import load_file, save_file

    weights = load_file(copy / "open_clip_model.safetensors")
    weights["logit_scale"] = weights["logit_scale"] + 1
    save_file(weights, copy / "open_clip_model.safetensors")
    outcome = imgsearch("query", "a lemon")
    assert outcome.code == 2 and "has changed since the index was made" in outcome.err
    assert imgsearch("index", "--model", f"local-dir:{copy}").code == 0
    assert imgsearch("query", "a lemon").code == 0
    assert len(imgsearch("status", "--json").records[0]["spaces"]) == 2
