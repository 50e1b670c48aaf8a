"""What a detector found in a picture, whatever computed it: plain arrays, and what others take."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from pycocotools import mask as mask_util

from nasnet_det.errors import requires

if TYPE_CHECKING:
    import supervision


@dataclass(frozen=True)
class Detections:
    """N objects in a picture of H x W pixels, best first.

    ``found[found.scores > 0.9]``, ``found[0]`` and ``found[:5]`` are parts of it.

    Attributes:
        boxes: (N, 4) as x0, y0, x1, y1 in pixels, from the corner of the picture.
        scores: (N,) from 0 to 1.
        classes: (N,) indices into ``categories``.
        categories: ``id`` and ``name`` of each class of the detector.
        masks: (N, H, W) booleans; None of a detector without masks.
        keypoints: (N, K, 3), x and y as in ``boxes``, and a score; None of one without them.
    """

    boxes: np.ndarray
    scores: np.ndarray
    classes: np.ndarray
    categories: Sequence[Mapping[str, Any]]
    masks: np.ndarray | None = None
    keypoints: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.scores)

    def __getitem__(self, chosen: Any) -> Detections:
        """Those of an index, of indices, of a slice, or where a mask (N,) is true."""
        kept = np.atleast_1d(np.arange(len(self))[chosen])
        return replace(
            self,
            boxes=self.boxes[kept],
            scores=self.scores[kept],
            classes=self.classes[kept],
            masks=None if self.masks is None else self.masks[kept],
            keypoints=None if self.keypoints is None else self.keypoints[kept],
        )

    @property
    def names(self) -> list[str]:
        """The N names of the classes."""
        return [str(self.categories[label]["name"]) for label in self.classes.tolist()]

    def to_coco(self, image_id: Any) -> list[dict[str, Any]]:
        """Entries of a COCO results file, which a data set may have too.

        Boxes are x, y, width and height in pixels, masks are RLE, keypoints x, y and score each.

        Args:
            image_id: of the picture.
        """
        boxes = self.boxes.astype(np.float64)
        sizes = boxes[:, 2:] - boxes[:, :2]
        annotations: list[dict[str, Any]] = [
            {
                "image_id": image_id,
                "category_id": self.categories[label]["id"],
                "bbox": [round(value, 2) for value in (*box[:2], *size)],
                "area": round(size[0] * size[1], 2),
                "iscrowd": 0,
                "score": round(score, 5),
            }
            for box, size, label, score in zip(
                boxes.tolist(),
                sizes.tolist(),
                self.classes.tolist(),
                self.scores.tolist(),
                strict=True,
            )
        ]
        for i, annotation in enumerate(annotations):
            if self.masks is not None:
                annotation["segmentation"] = _encode(self.masks[i])
                annotation["area"] = int(self.masks[i].sum())
            if self.keypoints is not None:
                # COCO's keypoints are indices of pixels, these are measured from their corners.
                points = self.keypoints[i].astype(np.float64) - (0.5, 0.5, 0.0)
                annotation["keypoints"] = [round(value, 3) for value in points.flatten().tolist()]
                annotation["num_keypoints"] = len(points)
        return annotations

    def to_supervision(self) -> supervision.Detections:
        """As the package ``supervision`` has them, with the names in ``data["class_name"]``.

        Raises:
            MissingPackageError: it is not installed.
        """
        with requires("supervision"):
            import supervision
        return supervision.Detections(
            xyxy=self.boxes.astype(np.float32),
            mask=self.masks,
            confidence=self.scores.astype(np.float32),
            class_id=self.classes.astype(int),
            data={"class_name": np.array(self.names, dtype=str)},
        )

    def draw(self, image: np.ndarray) -> np.ndarray:
        """A copy of the picture, (H, W, 3) uint8 and RGB, with the objects on it.

        A picture below 640 pixels is enlarged, so that names can be read.
        """
        from nasnet_det.drawing.boxes import draw_boxes

        return draw_boxes(
            image,
            self.boxes,
            self.classes.tolist(),
            [str(category["name"]) for category in self.categories],
            scores=self.scores.tolist(),
            masks=self.masks,
            keypoints=None if self.keypoints is None else self.keypoints[:, :, :2],
        )


class Finder(Protocol):
    """A detector as predictions use it.

    Attributes:
        name: of its file.
        categories: ``id`` and ``name`` of each class.
        batch_size: pictures that it looks at together.
    """

    name: str
    categories: list[dict[str, Any]]
    batch_size: int

    def detect(self, images: Sequence[np.ndarray]) -> list[Detections]:
        """What is in pictures (H, W, 3) uint8, RGB."""
        ...


def _encode(mask: np.ndarray) -> dict[str, Any]:
    """A mask (H, W) as COCO's compressed RLE, in what JSON can hold."""
    encoded = mask_util.encode(np.asfortranarray(mask, dtype=np.uint8))
    return {"size": list(encoded["size"]), "counts": encoded["counts"].decode()}
