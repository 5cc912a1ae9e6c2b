from __future__ import annotations

import numpy as np
import pytest

from imgsearch.core.errors import IndexDamaged
from imgsearch.core.vectors import FlatVectors, Graph, SlotMap


def unit_rows(count: int, dim: int, seed: int = 0) -> np.ndarray:
    rows = np.random.default_rng(seed).normal(size=(count, dim)).astype(np.float32)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def test_rows_come_back_as_written_and_a_tail_of_an_interrupted_run_is_overwritten(tmp_path):
    flat = FlatVectors(str(tmp_path / "v.f32"), 8)
    first, lost, second = unit_rows(5, 8, 1), unit_rows(4, 8, 2), unit_rows(2, 8, 3)
    flat.append(0, first)
    flat.append(5, lost)
    flat.append(5, second)
    assert np.array_equal(flat.rows(7), np.concatenate([first, second]))
    assert (tmp_path / "v.f32").stat().st_mode & 0o777 == 0o600


def test_a_file_shorter_than_the_catalogue_says_is_damage_not_a_crash(tmp_path):
    flat = FlatVectors(str(tmp_path / "v.f32"), 8)
    flat.append(0, unit_rows(3, 8))
    with pytest.raises(IndexDamaged, match="holds 3 vectors where the catalogue names 4"):
        flat.rows(4)
    with pytest.raises(IndexDamaged):
        FlatVectors(str(tmp_path / "absent.f32"), 8).rows(1)
    assert flat.rows(0).shape == (0, 8)


def test_a_slot_map_of_another_edition_is_stale(tmp_path):
    slots = SlotMap.build(4, [(0, "image", 1), (2, "text", 1), (3, "image", 0)])
    path = str(tmp_path / "slots.u8")
    slots.save(path, edition=7)
    assert SlotMap.load(path, 4, edition=8) is None
    assert SlotMap.load(path, 5, edition=7) is None
    loaded = SlotMap.load(path, 4, edition=7)
    assert loaded is not None
    assert loaded.mask("image").tolist() == [True, False, False, False]
    assert loaded.mask("image", include_offline=True).tolist() == [True, False, False, True]
    assert loaded.mask("text").tolist() == [False, False, True, False]


def test_a_graph_grows_over_runs_and_finds_what_an_exact_scan_finds(tmp_path):
    rows = unit_rows(3000, 32)
    path = str(tmp_path / "hnsw.image")
    Graph(path, 32).update(rows, range(1000), upto=1000, generation=0)
    grown = Graph(path, 32)
    assert grown.load(0)
    grown.update(rows, range(1000, 3000), upto=3000, generation=0)
    graph = Graph(path, 32)
    assert graph.covers_upto(0) == 3000 and graph.covers_upto(1) == 0
    assert graph.load(0)
    queries = unit_rows(100, 32, seed=9)
    exact = np.argsort(-(queries @ rows.T), axis=1)[:, :10]
    found = graph.nearest(queries, 10)
    recall = np.mean([len(set(a) & set(b.tolist())) / 10 for a, b in zip(exact.tolist(), found, strict=True)])
    assert recall >= 0.99


def test_a_damaged_graph_is_never_given_to_hnswlib(tmp_path):
    rows = unit_rows(50, 8)
    path = tmp_path / "hnsw.image"
    Graph(str(path), 8).update(rows, range(50), upto=50, generation=0)
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 0xFF
    path.write_bytes(data)
    assert not Graph(str(path), 8).load(0)
    path.write_bytes(bytes(data[:100]))
    assert not Graph(str(path), 8).load(0)
    path.unlink()
    assert not Graph(str(path), 8).load(0)
