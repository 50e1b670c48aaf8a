"""Put a trained trunk into the package, with the card that says where it comes from.

    python tools/package_weights.py RUN NAME --recipe CONFIG --data ... --licence ... \\
        --commit HASH --command "nasnet-det train-classifier ..." --command "python tools/..."

RUN is the OUTPUT_DIR of a finished ``nasnet-det train-classifier``. Its ``model_final.pth`` becomes
nasnet_det/weights/files/NAME.safetensors, convolutions in half precision, and NAME.json beside it
the card. The accuracy is that of the run's results.json: of the whole classifier, in float32, on
the test images of its data set.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
from pathlib import Path

from nasnet_det.classification import export_backbone
from nasnet_det.runs.files import write_json
from nasnet_det.runs.record import read_starts
from nasnet_det.weights.file import read_weights
from nasnet_det.weights.packaged import FOLDER

MOST_BYTES = 6_000_000
_SHOWN = ("DATA.", "DISTILL.", "SOLVER.", "AUGMENT.", "EMA.", "SEED")


def main(arguments: list[str]) -> int:
    """Write both files; the exit status."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("run", type=Path)
    parser.add_argument("name")
    for word in ("data", "licence", "recipe", "commit"):
        parser.add_argument(f"--{word}", required=True)
    parser.add_argument("--command", action="append", required=True, help="once for each")
    options = parser.parse_args(arguments)
    FOLDER.mkdir(exist_ok=True)
    path = FOLDER / f"{options.name}.safetensors"
    backbone = export_backbone(options.run / "model_final.pth", path, half=True)
    content = path.read_bytes()
    if len(content) > MOST_BYTES:
        path.unlink()
        parser.error(f"wanted at most {MOST_BYTES:,} bytes, got {len(content):,}")
    results = json.loads((options.run / "results.json").read_text())
    starts = read_starts(options.run)
    weights = read_weights(str(path))["model"]
    card = {
        "name": options.name,
        "sha256": hashlib.sha256(content).hexdigest(),
        "bytes": len(content),
        "network": backbone.config["MODEL.NASNET.VARIANT"],
        "num_tensors": len(weights),
        "num_weights": sum(tensor.numel() for tensor in weights.values()),
        "data": options.data,
        "licence": options.licence,
        "recipe": options.recipe,
        "commands": options.command,
        "config": {k: v for k, v in backbone.config.items() if k.startswith(_SHOWN)},
        "top1": results["top1"],
        "top5": results["top5"],
        "num_test_images": results["num_images"],
        "num_classes": len(backbone.classes),
        "iterations": results["iteration"],
        "commit": options.commit,
        "versions": starts[-1]["versions"],
    }
    write_json(FOLDER / f"{options.name}.json", card)
    print(json.dumps({k: v for k, v in card.items() if k != "config"}, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
