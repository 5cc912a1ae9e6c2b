"""Prints triplets as queries for `imgsearch eval jsonl`: see core/compose/caption_triplets.py.

python bench/triplets.py flickr8k-dev/captions.jsonl > triplets.jsonl
imgsearch eval jsonl -a triplets.jsonl --images flickr8k-dev/images --methods all --metrics recall@1,recall@5
"""

from __future__ import annotations

import json
import os
import sys

from imgsearch.core.compose.caption_triplets import triplets


def main() -> None:
    if len(sys.argv) != 2:
        raise SystemExit(__doc__)
    with open(sys.argv[1], encoding="utf-8") as file:
        photos = [json.loads(line) for line in file]
    names = [os.path.basename(photo["file"]) for photo in photos]
    for each in triplets([photo["captions"] for photo in photos]):
        record = {"image": names[each.reference], "text": each.change, "relevant": [names[each.target]]}
        print(json.dumps(record))


if __name__ == "__main__":
    main()
