"""A search for cells, and a NASNet detector: make data, run the pipeline, draw what was found.

    python tools/demo.py

It works in output/demo: data/ (handwritten digits on photographs, in COCO's format), a folder for
each stage of configs/pipelines/demo.yaml, predictions.png (the truth beside what was found, for the
first pictures of the test set), and demo.json (scores, and the seconds of each stage). Interrupted,
it goes on where it was; done, it prints the result again.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
OUTPUT = Path("output/demo")
CONFIG = "configs/pipelines/demo.yaml"
NUM_PICTURES = 6


def main() -> int:
    """Run all steps; the exit status of the first that fails."""
    for command in (
        ["tools/make_demo_data.py", str(OUTPUT / "data")],
        ["-m", "nasnet_det", "pipeline", "--config-file", CONFIG],
    ):
        print("$ python", *command, flush=True)
        status = subprocess.run([sys.executable, *command], cwd=ROOT, check=False).returncode
        if status:
            return status
    picture = ROOT / OUTPUT / "predictions.png"
    draw_comparison(picture)
    scores = read_scores(ROOT / OUTPUT / "evaluation" / "results.json")
    print_scores(scores)
    write_summary(ROOT / OUTPUT, scores)
    print(f"truth (left) beside predictions (right): {OUTPUT / picture.name}")
    print(f"report: {OUTPUT / 'report' / 'report.html'}")
    print(f"curves: tensorboard --logdir {OUTPUT / 'detector'}")
    return 0


def draw_comparison(path: Path) -> None:
    """Draw the first test pictures with their true boxes, and beside them what was found."""
    import numpy as np
    from PIL import Image

    from nasnet_det.data.pictures import read_pixels
    from nasnet_det.detection import get_config
    from nasnet_det.detection.predictor import Predictor
    from nasnet_det.drawing.boxes import draw_boxes

    run, data = ROOT / OUTPUT / "detector", ROOT / OUTPUT / "data"
    weights = ["MODEL.WEIGHTS", str(run / "model_final.pth")]
    predictor = Predictor(get_config(str(run / "config.yaml"), weights))
    truth = json.loads((data / "test.json").read_text())
    labels = {category["id"]: i for i, category in enumerate(predictor.categories)}
    names = [category["name"] for category in predictor.categories]
    rows = []
    for record in truth["images"][:NUM_PICTURES]:
        image = read_pixels(data / "test" / record["file_name"])
        mine = [a for a in truth["annotations"] if a["image_id"] == record["id"]]
        boxes = np.array([[x, y, x + w, y + h] for x, y, w, h in (a["bbox"] for a in mine)])
        left = draw_boxes(image, boxes, [labels[a["category_id"]] for a in mine], names)
        (found,) = predictor.detect([image])
        right = found[found.scores >= 0.5].draw(image)
        rows.append(np.concatenate([left, right], axis=1))
    pairs = [np.concatenate(rows[i : i + 2], axis=1) for i in range(0, len(rows), 2)]
    Image.fromarray(np.concatenate(pairs)).save(path)


def read_scores(path: Path) -> dict[str, float | None]:
    """COCO's averages, in percent."""
    (result,) = json.loads(path.read_text())["datasets"].values()
    scores: dict[str, float | None] = result["results"]["bbox"]
    return scores


def print_scores(scores: dict[str, float | None]) -> None:
    """Print the table of COCO's averages."""
    names = ["AP", "AP50", "AP75", "APs", "APm", "APl"]
    texts = ("     -" if (score := scores[n]) is None else f"{score:6.1f}" for n in names)
    print("\nCOCO mAP on the test pictures, in percent")
    print("  ".join(f"{name:>6}" for name in names))
    print("  ".join(texts))


def write_summary(folder: Path, scores: dict[str, float | None]) -> None:
    """Write the scores and the seconds of each stage, which the pipeline keeps."""
    from nasnet_det.runs.files import write_json

    stages = json.loads((folder / "pipeline.json").read_text())
    seconds = {name: stage["seconds"] for name, stage in stages.items()}
    minutes = round(sum(seconds.values()) / 60, 2)
    write_json(folder / "demo.json", {"scores": scores, "seconds": seconds, "minutes": minutes})


if __name__ == "__main__":
    sys.exit(main())
