"""A pipeline of Albumentations from the file that its ``save`` writes.

The file names classes of Albumentations with plain values. Nothing in it is run: what is no such
class is refused, and so is a ``Lambda``, whose function a file can't hold.
"""

from __future__ import annotations

import os
import random
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from detectron2.structures import BoxMode

from nasnet_det.config import ConfigError, parse_yaml
from nasnet_det.detection.cut_objects import (
    Annotation,
    cut_box,
    decode_mask,
    encode_mask,
    get_box,
)
from nasnet_det.errors import requires

KEY = "INPUT.ALBUMENTATIONS"
# Rules for boxes that a file may have; the others say how boxes are given, which is known here.
BOX_RULES = ("min_area", "min_visibility", "min_width", "min_height", "max_accept_ratio")


class AlbumentationsPipeline:
    """The pipeline of a file, for pictures and objects in Detectron2's form.

    What it does to a picture depends on the state of numpy's generator alone.

    Args:
        path: of a JSON or YAML as ``albumentations.save`` writes it.
        image_format: ``RGB`` or ``BGR``; the pipeline sees RGB.

    Raises:
        ConfigError: it can't be read, or holds what is no transform of Albumentations.
        MissingPackageError: Albumentations is not installed.
    """

    def __init__(self, path: str, *, image_format: str) -> None:
        self.path, self.image_format = path, image_format
        self.pipeline = _load_pipeline(path)

    def __call__(
        self, image: np.ndarray, annotations: Sequence[Annotation]
    ) -> tuple[np.ndarray, list[Annotation]]:
        """A picture (H, W, 3) uint8 and its objects, changed; boxes may be gone.

        Raises:
            ConfigError: a transform fails, or gives what is no such picture.
        """
        size = (image.shape[0], image.shape[1])
        whole = (0.0, 0.0, float(size[1]), float(size[0]))
        cut = [
            (dict(annotation), cut_box(get_box(annotation), whole)) for annotation in annotations
        ]
        objects = [(annotation, box) for annotation, box in cut if box is not None]
        masks = [
            decode_mask(annotation["segmentation"], size).astype(np.uint8)
            for annotation, _ in objects
            if "segmentation" in annotation
        ]
        if len(masks) != len(objects):  # some have none
            masks = []
        # One pair of generators for all transforms: by its set_random_seed, each would draw the
        # same numbers as the others.
        seed = int(np.random.randint(2**31))
        self.pipeline.set_random_state(np.random.default_rng(seed), random.Random(seed))
        is_bgr = self.image_format == "BGR"
        try:
            changed = self.pipeline(
                image=np.ascontiguousarray(image[..., ::-1] if is_bgr else image),
                bboxes=np.array([box for _, box in objects]).reshape(-1, 4),
                places=np.arange(len(objects)),
                **({"masks": np.stack(masks)} if masks else {}),
            )
        except Exception as error:  # theirs raise anything
            reason = " ".join(str(error).split()) or type(error).__name__
            raise ConfigError(f"{KEY}: {self.path} fails: {reason:.300}") from error
        picture = changed["image"]
        if not (isinstance(picture, np.ndarray) and picture.dtype == np.uint8):
            raise ConfigError(
                f"{KEY}: wanted a pipeline that gives pictures of uint8, got "
                f"{getattr(picture, 'dtype', type(picture).__name__)} of {self.path}; leave out "
                "Normalize and ToTensorV2, which the detector does itself"
            )
        if picture.shape[2:] != (3,):
            raise ConfigError(f"{KEY}: wanted pictures of 3 channels of {self.path}, got others")
        found = []
        for box, place in zip(changed["bboxes"], changed["places"], strict=True):
            annotation = objects[int(place)][0]
            annotation.update(bbox=np.asarray(box[:4], float), bbox_mode=BoxMode.XYXY_ABS)
            if masks:
                mask = changed["masks"][int(place)]
                annotation["segmentation"] = encode_mask(mask)
                if not mask.any():
                    continue
            found.append(annotation)
        return (np.ascontiguousarray(picture[..., ::-1]) if is_bgr else picture), found


def _load_pipeline(path: str) -> Any:
    os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")  # else it asks the network when imported
    with requires("augmentation"):
        import albumentations
    try:
        text = Path(path).read_text(encoding="utf-8-sig")
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ConfigError(f"{KEY}: {path} can't be read: {reason}") from None
    data = parse_yaml(text, f"{KEY}: {path}")  # JSON is YAML
    content = data.get("transform") if isinstance(data, dict) else None
    if not isinstance(content, dict) or content.get("__class_fullname__") != "Compose":
        raise ConfigError(
            f"{KEY}: wanted a file of albumentations.save with a Compose, got {path} with other "
            "content"
        )
    theirs = content.get("bbox_params")
    rules = (
        {key: theirs[key] for key in BOX_RULES if key in theirs} if isinstance(theirs, dict) else {}
    )
    content = {**content, "bbox_params": None, "keypoint_params": None}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", UserWarning)  # a misspelt argument is only warned of
            pipeline = albumentations.from_dict({"transform": content})
        boxes = albumentations.BboxParams("pascal_voc", label_fields=["places"], **rules)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # none of its transforms may move a box
            return albumentations.Compose(pipeline.transforms, bbox_params=boxes, p=pipeline.p)
    except KeyError as error:
        raise ConfigError(
            f"{KEY}: {path} names {error}, which is no transform of Albumentations "
            f"{albumentations.__version__}"
        ) from None
    except Exception as error:  # theirs raise anything
        reason = " ".join(str(error).split()) or type(error).__name__
        if "non-serializable" in reason:
            reason = "a Lambda holds code, which a file can't; leave it out"
        raise ConfigError(f"{KEY}: {path} can't be built: {reason:.300}") from None
