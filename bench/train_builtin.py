"""Makes the weights of `restyle` that ship for the built-in model, and prints what they find on held-out photos.

python bench/train_builtin.py [--data DIR]

DIR contains `flickr8k-train/`, photos of Flickr8k's train split. Default: $IMGSEARCH_TEST_DATA, else ../shared/data
beside the repository. `imgsearch train-composer restyle` does the same for other photos and models. A run that was
stopped continues.
"""

from __future__ import annotations

import argparse
import os
import threading
import time

from imgsearch.cli.loading import load_model
from imgsearch.core.compose import composers
from imgsearch.core.compose.changed_photos import Training, photos_of_paths
from imgsearch.core.compose.composer_file import write
from imgsearch.core.evaluation.runs import CachingEmbedder
from imgsearch.core.evaluation.trained_composer import train
from imgsearch.core.models import registry
from imgsearch.core.photos.decode_pool import DecodePool
from imgsearch.core.writing import replacing

REPOSITORY = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
PHOTOS = 1500
# Of the words, where they name no style: bench/quality.py triplets, tuned on one half and tested on the other.
OTHER_WEIGHT = 0.55
LICENCE = "Apache-2.0; trained on photos of Flickr8k, which are offered for non-commercial research"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    data = os.environ.get("IMGSEARCH_TEST_DATA") or os.path.join(REPOSITORY, "..", "shared", "data")
    parser.add_argument("--data", default=data)
    folder = os.path.join(os.path.abspath(parser.parse_args().data), "flickr8k-train", "images")
    model = load_model(registry.parse("builtin"), device="cpu", precision="auto", offline=True, say=print)
    photos, skipped = photos_of_paths([folder], PHOTOS)
    assert not skipped, skipped
    started = time.perf_counter()
    with DecodePool() as pool, Training(photos, model) as training:
        changed = training.run(pool, lambda skipped: None, threading.Event())
        assert changed is not None
        trained = train(
            changed,
            CachingEmbedder(lambda: model).embed_texts,
            model.identity,
            training_data=f"{PHOTOS:,} photos of Flickr8k (train split), each also in four of 21 other styles",
            licence=LICENCE,
            other_weight=OTHER_WEIGHT,
        )
        with replacing(os.path.join(composers.SHIPPED, "restyle.safetensors"), mode=0o666) as file:
            write(file, trained.metadata, trained.tensors)
        training.forget()
    print(f"{time.perf_counter() - started:.0f} s; {trained.metadata['measured']}")


if __name__ == "__main__":
    main()
