"""Installs rclip into its own virtual environment, and one model for both: `python bench/peers/setup.py`.

rclip looks for its ONNX files before it downloads any. It gets open_clip's ViT-B-32-256 with random weights, exported
as its author exports the real ones (fp32, opset 18, a free batch axis); imgsearch gets the same weights as a
checkpoint. What is there already is left alone. It ends with a check that rclip's scores are open_clip's.
"""

from __future__ import annotations

import argparse
import json
import logging
import shutil
import subprocess
import sys
import venv
import warnings
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[2]
PEERS = ROOT / ".bench" / "peers"
RCLIP = "rclip==3.3.0"
VENV = PEERS / "venv"
DATADIR = PEERS / "rclip"
"""The folder for $RCLIP_DATADIR, or files to link into it."""
WEIGHTS = PEERS / "ViT-B-32-256.safetensors"
SIDE = Path(__file__).with_name("rclip_side.py")

ARCH, TAG = "ViT-B-32-256", "datacomp_s34b_b86k"
VISUAL, TEXTUAL = f"{ARCH}-{TAG}/visual.onnx", f"{ARCH}-{TAG}/textual.onnx"
VOCABULARY = "tokenizer/bpe_simple_vocab_16e6.txt.gz"
OPSET = 18
MAX_APART = 1e-3
"""Maximum difference between the scores of the two programs."""

PICTURES = sorted((ROOT / "tests" / "album").glob("*.jpg"))[:4]
TEXTS = ("a red apple", "two dogs play on a beach at sunset", "Straße im Regen, 1987", "x")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--again", action="store_true", help="throw away what an earlier run made")
    if parser.parse_args().again and PEERS.exists():
        shutil.rmtree(PEERS)
    install()
    export()
    check()


def python() -> Path:
    """The Python that has rclip."""
    return VENV / "bin" / "python"


def install() -> None:
    if (VENV / "bin" / "rclip").exists():
        return
    print(f"installing {RCLIP} ...", flush=True)
    venv.create(VENV, clear=True, with_pip=True)
    subprocess.run([python(), "-m", "pip", "install", "--quiet", RCLIP], check=True)


def export() -> None:
    wanted = [WEIGHTS, DATADIR / VISUAL, DATADIR / TEXTUAL, DATADIR / VOCABULARY]
    if all(path.exists() for path in wanted):
        return
    print(f"exporting {ARCH} with random weights ...", flush=True)
    import open_clip
    import torch
    from safetensors.torch import save_file

    for path in wanted:
        path.parent.mkdir(parents=True, exist_ok=True)
    model = random_model()
    shutil.copyfile(Path(open_clip.__file__).with_name("bpe_simple_vocab_16e6.txt.gz"), DATADIR / VOCABULARY)
    torch.backends.mha.set_fastpath_enabled(False)  # its fused operator has no ONNX counterpart
    export_tower(model.visual, torch.randn(1, 3, *model.visual.image_size), DATADIR / VISUAL)
    words = torch.zeros(1, model.context_length, dtype=torch.long)
    export_tower(Textual(model), words, DATADIR / TEXTUAL)
    save_file({name: value.contiguous() for name, value in model.state_dict().items()}, WEIGHTS)


def random_model():
    """The same name for the same torch."""
    import open_clip
    import torch

    logging.getLogger().setLevel(logging.ERROR)  # it would warn of what is meant here
    torch.manual_seed(0)
    return open_clip.create_model(ARCH).eval().requires_grad_(False)


def Textual(model):  # noqa: N802 - a class, but torch is loaded late
    import torch

    class Textual(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, tokens):
            return self.model.encode_text(tokens)

    return Textual()


def export_tower(tower, example, path: Path) -> None:
    import torch

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of tracing, and of the older exporter, which rclip's author uses
        torch.onnx.export(
            tower,
            (example,),
            str(path),
            input_names=["input"],
            output_names=["output"],
            dynamic_axes={"input": {0: "batch"}, "output": {0: "batch"}},
            opset_version=OPSET,
            dynamo=False,
        )


def check() -> None:
    """Compare rclip's cosines of pictures and texts with open_clip's. Exits if they differ."""
    asked = [str(SIDE), "scores", json.dumps([str(path) for path in PICTURES]), json.dumps(TEXTS)]
    done = subprocess.run([python(), *asked], check=True, stdout=subprocess.PIPE, env={"RCLIP_DATADIR": str(DATADIR)})
    theirs = np.array(json.loads(done.stdout))
    apart = float(np.abs(theirs - own_scores()).max())
    print(f"rclip's scores of {theirs.size} pairs are within {apart:.1e} of open_clip's")
    if apart > MAX_APART:
        sys.exit(f"more than {MAX_APART}: the comparison would not be of the same model")


def own_scores() -> np.ndarray:
    """The cosines of open_clip with the weights of the file, shape (pictures, texts)."""
    import open_clip
    import torch
    from PIL import Image

    model, _, transform = open_clip.create_model_and_transforms(ARCH, pretrained=str(WEIGHTS))
    model.eval()
    squares = torch.stack([transform(Image.open(path)) for path in PICTURES])
    with torch.inference_mode():
        pictures = model.encode_image(squares, normalize=True)
        words = model.encode_text(open_clip.get_tokenizer(ARCH)(list(TEXTS)), normalize=True)
    return (pictures @ words.T).numpy()


if __name__ == "__main__":
    main()
