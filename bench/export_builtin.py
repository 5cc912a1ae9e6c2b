"""Makes what ships with the built-in model: its image tower, a small graph that refers to its weights file; what says
how numpy runs its text tower from that file; and the vectors of the neutral phrases.

    python bench/export_builtin.py

The weights are not copied. Each tensor of the graph refers to its position in open_clip_model.safetensors, where it is
in half precision, and is widened when it is used. Run this after a change of the built-in model or of FORMAT in
`core/models/towers.py`; tests/test_towers.py checks the result against the model.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import struct

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from imgsearch.core.models import loading, onnx_export, registry
from imgsearch.core.models.phrases import neutral_phrases, shipped_vectors
from imgsearch.core.models.towers import MANIFEST, TOWERS, Towers

WEIGHTS = "open_clip_model.safetensors"
SUMS = "SHA256SUMS"
PHRASE_STEPS = 2048
"""From 0 to 1."""
EARLIER = {"4485b7fc6053026eb41d4bca60a8178403bffc910929d93ff84cf0953fabf2a1": "earlier_v0.npy"}
"""The fingerprint of v0; its matrix is made by bench/translate.py."""


def tensors(path: str) -> dict[bytes, tuple[int, int]]:
    """Offset and length of each half-precision tensor of a safetensors file, by its content in float32."""
    with open(path, "rb") as file:
        data = file.read()
    (length,) = struct.unpack("<Q", data[:8])
    found = {}
    for name, entry in json.loads(data[8 : 8 + length]).items():
        if name != "__metadata__" and entry["dtype"] == "F16":
            first, end = (8 + length + offset for offset in entry["data_offsets"])
            found[np.frombuffer(data[first:end], np.float16).astype(np.float32).tobytes()] = (first, end - first)
    return found


def point_into(graph: onnx.GraphProto, places: dict[bytes, tuple[int, int]]) -> None:
    """Replace the weights of a graph with references."""
    for weights in list(graph.initializer):
        values = numpy_helper.to_array(weights)
        place = places.get(values.tobytes()) if values.dtype == np.float32 else None
        if place is None:
            assert values.nbytes < 1024, f"{weights.name} is not in {WEIGHTS}"
            continue
        wide, narrow = weights.name, f"{weights.name}.half"
        weights.CopyFrom(TensorProto(name=narrow, dims=values.shape, data_type=TensorProto.FLOAT16))
        weights.data_location = TensorProto.EXTERNAL
        for key, value in (("location", WEIGHTS), ("offset", place[0]), ("length", place[1])):
            weights.external_data.add(key=key, value=str(value))
        graph.node.insert(0, helper.make_node("Cast", [narrow], [wide], to=TensorProto.FLOAT))


def write_sums(folder: str) -> None:
    """The checksums that `imgsearch doctor` compares, in the format of sha256sum."""
    names = sorted(name for name in os.listdir(folder) if name not in (SUMS, "README.md"))
    with open(os.path.join(folder, SUMS), "w", encoding="ascii") as sums:
        for name in names:
            with open(os.path.join(folder, name), "rb") as file:
                sums.write(f"{hashlib.file_digest(file, 'sha256').hexdigest()}  {name}\n")


def write_phrases(towers: Towers, folder: str) -> None:
    """The vectors of the neutral phrases, rounded so that they are small in a wheel, under their name."""
    for name in os.listdir(folder):
        if name.startswith("phrases-"):
            os.unlink(os.path.join(folder, name))
    phrases = neutral_phrases()
    path = shipped_vectors(towers.manifest.fingerprint, phrases)
    np.save(path, (np.round(towers.embed_texts(phrases) * PHRASE_STEPS) / PHRASE_STEPS).astype(np.float16))
    print(f"{path}: {os.path.getsize(path):,} bytes")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.parse_args()
    folder = str(loading.BUILTIN_DIR)
    embedder = loading.load(registry.parse(registry.BUILTIN), device="cpu")
    assert embedder.reload is not None
    model = embedder.reload().eval().requires_grad_(False)
    path = os.path.join(folder, "image.onnx")
    onnx_export.trace(onnx_export.tower_of(model, embedder, "image"), path, keep_weights=True)
    traced = onnx.load(path)
    point_into(traced.graph, tensors(os.path.join(folder, WEIGHTS)))
    onnx.save(traced, path)
    print(f"{path}: {os.path.getsize(path):,} bytes")
    onnx_export.write_merges(embedder.tokenizer, folder)
    made = onnx_export.with_manifest(
        embedder,
        model,
        folder,
        {},
        only=("image.onnx", "merges.txt", WEIGHTS, *EARLIER.values()),
        text_weights=WEIGHTS,
    )
    made.manifest.earlier.update(EARLIER)
    for name in TOWERS:
        assert not (why := onnx_export.disagreement(made, model, embedder, name)), why
    with open(os.path.join(folder, MANIFEST), "w", encoding="utf-8") as file:
        file.write(made.manifest.to_json() + "\n")
    write_phrases(made, folder)
    write_sums(folder)


if __name__ == "__main__":
    main()
