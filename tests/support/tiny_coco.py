"""A COCO-format data set of three pictures and three objects."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any


def make_coco() -> dict[str, Any]:
    """Three images of 100x80, one without a box; ids with gaps and out of order."""
    return {
        "categories": [{"id": 7, "name": "dog"}, {"id": 2, "name": "cat"}],
        "images": [
            {"id": 5, "file_name": "a.jpg", "width": 100, "height": 80},
            {"id": 3, "file_name": "deep/er/b.jpg", "width": 100, "height": 80},
            {"id": 9, "file_name": "c.jpg", "width": 100, "height": 80},
        ],
        "annotations": [
            make_annotation(11, 5, 7, [0, 0, 100, 80]),
            make_annotation(12, 5, 2, [90.5, 70.5, 10.2, 10.2]),
            make_annotation(13, 3, 2, [1, 2, 30, 40], iscrowd=1),
        ],
    }


def make_annotation(
    key: int, image: Any, category: Any, box: list[float], **more: Any
) -> dict[str, Any]:
    """One annotation with all that COCO has but a mask."""
    fields = {"id": key, "image_id": image, "category_id": category, "bbox": box}
    return {**fields, "area": box[2] * box[3], "iscrowd": 0, **more}


def write_json(path: Path, data: Any) -> Path:
    """A JSON file; a text is written as it is."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(data if isinstance(data, str) else json.dumps(data))
    return path
