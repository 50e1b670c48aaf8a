"""Pictures with boxes as a FiftyOne dataset on disk, which its ``FiftyOneDataset`` reads.

The folder gets ``metadata.json`` and ``samples.json``. A ``version`` in the first would promise a
document of FiftyOne's database; without one, FiftyOne takes the schema from the samples, in all its
releases. Pictures are not copied: samples name where they lie.

==========================  ===================================================================
``samples.json``            ``{"samples": [...]}``, a dict for each picture
``filepath``                absolute
``metadata``                ``_cls`` ImageMetadata, ``width``, ``height`` in pixels; where known
``tags``                    []
a field such as             ``_cls`` Detections, ``detections``: a list of dicts
``predictions``
``_cls``, ``label``         Detection, the name of the class
``bounding_box``            left, top, width, height as parts of the picture's sides
``confidence``              the score; of what was found alone
``iscrowd``, ``coco_id``    of annotations alone
==========================  ===================================================================
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nasnet_det.runs.files import FileError, write_content

METADATA, SAMPLES = "metadata.json", "samples.json"
TRUTH, PREDICTIONS = "ground_truth", "predictions"


@dataclass(frozen=True)
class Box:
    """A box of a sample.

    Attributes:
        label: name of its class.
        box: left, top, width and height in pixels.
        score: 0 to 1; None of an annotation.
        more: other attributes, such as ``iscrowd``.
    """

    label: str
    box: Sequence[float]
    score: float | None = None
    more: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class Sample:
    """A picture.

    Attributes:
        path: of the file.
        size: width and height in pixels.
        fields: name, such as ``predictions`` -> its boxes.
    """

    path: Path
    size: tuple[float, float]
    fields: Mapping[str, Iterable[Box]]


def write_fiftyone(
    folder: Path, samples: Iterable[Sample], *, name: str, classes: Sequence[str], **info: Any
) -> None:
    """Write a dataset's two files.

    Args:
        folder: is made.
        samples: its pictures.
        name: of the dataset.
        classes: all names, in their order.
        **info: what ``dataset.info`` says besides, as JSON.

    Raises:
        FileError: a file can't be written.
    """
    about = {
        "name": name,
        "media_type": "image",
        "info": {**info, "default_classes": list(classes)},
    }
    content = json.dumps({"samples": [_make_sample(sample) for sample in samples]})
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise FileError(f"{folder} can't be made ({error.strerror})") from None
    write_content(folder / SAMPLES, content)
    write_content(folder / METADATA, json.dumps(about))


def _make_sample(sample: Sample) -> dict[str, Any]:
    width, height = map(int, sample.size)
    return {
        "filepath": str(sample.path.absolute()),
        "tags": [],
        "metadata": {"_cls": "ImageMetadata", "width": width, "height": height},
        "_media_type": "image",
        **{
            name: {
                "_cls": "Detections",
                "detections": [_make_box(box, width, height) for box in boxes],
            }
            for name, boxes in sample.fields.items()
        },
    }


def _make_box(box: Box, width: int, height: int) -> dict[str, Any]:
    left, top, across, down = map(float, box.box)
    return {
        "_cls": "Detection",
        "attributes": {},
        "tags": [],
        "label": box.label,
        "bounding_box": [left / width, top / height, across / width, down / height],
        **({} if box.score is None else {"confidence": float(box.score)}),
        **(box.more or {}),
    }
