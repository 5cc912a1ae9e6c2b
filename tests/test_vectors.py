from __future__ import annotations

import json

import numpy as np
import pytest

from imgsearch.core.errors import IndexDamaged, UsageError
from imgsearch.core.store import seals
from imgsearch.core.store.graphs import HNSW_SLOTS, Graph, graph_slots
from imgsearch.core.store.vectors import FlatVectors, SlotMap


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
    with pytest.raises(IndexDamaged, match="has 3 vectors, but the catalogue expects 4"):
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


def build(graph: Graph, rows: np.ndarray, slots: range, **options: object) -> bool:
    assert seals.ensure_key()
    graph.create(len(slots))
    return graph.add(rows, slots, upto=slots.stop, generation=0, **options)


def test_a_graph_finds_what_an_exact_scan_of_its_slots_finds(tmp_path):
    rows = unit_rows(4000, 32)
    graph = Graph(str(tmp_path / "hnsw.image.1"), 32, 1000, 4000)
    assert build(graph, rows, range(1000, 3600, 2))
    assert graph.is_valid(0) and not graph.is_valid(1) and graph.upto == 3600
    assert graph.load(0, room=200) and not graph.load(1)
    assert graph.add(rows, range(3600, 4000, 2), upto=4000, generation=0)
    graph = Graph(graph.path, 32, 1000, 9000)
    assert graph.load(0) and graph.upto == 4000 and graph.slots() == set(range(1000, 4000, 2))
    queries = unit_rows(100, 32, seed=9)
    exact = np.argsort(-(queries @ rows[1000::2].T), axis=1)[:, :10] * 2 + 1000
    found = graph.nearest(queries, 10)
    recall = np.mean([len(set(a) & set(b.tolist())) / 10 for a, b in zip(exact.tolist(), found, strict=True)])
    assert recall >= 0.99


def test_a_stopped_graph_leaves_nothing(tmp_path):
    looks = iter([False, True])
    graph = Graph(str(tmp_path / "hnsw.image.0"), 8, 0, 3000)
    assert not build(graph, unit_rows(3000, 8), range(3000), stop=lambda: next(looks))
    assert list(tmp_path.iterdir()) == []


def test_a_damaged_graph_is_never_given_to_hnswlib(tmp_path):
    path = tmp_path / "hnsw.image.0"

    def loads(first: int = 0) -> bool:
        return Graph(str(path), 8, first, first + 50).load(0)

    build(Graph(str(path), 8, 0, 50), unit_rows(50, 8), range(50))
    assert loads()
    sound = path.read_bytes()
    data = bytearray(sound)
    data[len(data) // 2] ^= 0xFF
    path.write_bytes(data)
    assert not loads()
    path.write_bytes(bytes(data[:100]))
    assert not loads()
    path.write_bytes(sound)
    assert loads()
    path.unlink()
    assert not loads()


def test_a_graph_whose_json_file_claims_other_slots_is_not_loaded(tmp_path):
    path = tmp_path / "hnsw.image.0"
    build(Graph(str(path), 8, 0, 50), unit_rows(50, 8), range(50))
    note = tmp_path / "hnsw.image.0.json"
    assert not Graph(str(path), 8, 50, 100).load(0)
    for claim in ({"first": 50, "upto": 100}, {"upto": 100}, {"generation": 1}):
        changed = json.loads(note.read_text()) | claim
        other = Graph(str(path), 8, changed["first"], changed["upto"])
        note.write_text(json.dumps(changed))
        assert not other.load(changed["generation"])


def test_how_many_vectors_a_graph_covers_can_be_set(monkeypatch):
    for given, slots in (("", HNSW_SLOTS), ("0", 0), ("1000", 1000)):
        monkeypatch.setenv("IMGSEARCH_HNSW_SLOTS", given)
        assert graph_slots() == slots
    monkeypatch.setenv("IMGSEARCH_HNSW_SLOTS", "many")
    with pytest.raises(UsageError, match="IMGSEARCH_HNSW_SLOTS=many: not a number"):
        graph_slots()
