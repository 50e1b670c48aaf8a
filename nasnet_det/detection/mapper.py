"""From a record of a data set to what a detector is given, with the pictures of ``data/``."""

from __future__ import annotations

import copy
import logging
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np
import torch
from detectron2.config import configurable
from detectron2.data import DatasetMapper, detection_utils
from detectron2.data import transforms as T
from detectron2.utils.file_io import PathManager

from nasnet_det.data.broken_pictures import BrokenPictures, describe_broken
from nasnet_det.data.error import DataError
from nasnet_det.data.pictures import PictureError, read_picture
from nasnet_det.detection.albumentations_file import AlbumentationsPipeline
from nasnet_det.detection.augmentation import build_augmentations
from nasnet_det.detection.cut_objects import transform_object
from nasnet_det.detection.mixing import Mixing, Picture

Record = dict[str, Any]
MAX_TRIES = 100  # pictures in a row that may be refused

logger = logging.getLogger(__name__)


def read_image(path: str, image_format: str) -> np.ndarray:
    """A picture as Detectron2's function of this name gives it, read as every stage reads it.

    Args:
        path: of this machine, or as Detectron2 knows others.
        image_format: ``RGB``, ``BGR``, ``L`` or ``YUV-BT.601``.

    Returns:
        (H, W, C), uint8 (floats for YUV).

    Raises:
        PictureError: it can't be read.
    """
    try:
        with PathManager.open(path, "rb") as file:
            picture = read_picture(file, name=path)
    except OSError as error:
        reason = error.strerror or str(error)
        raise PictureError(f"{path} can't be read as a picture: {reason}", reason=reason) from None
    return detection_utils.convert_PIL_to_numpy(picture, image_format)


class PictureMapper(DatasetMapper):
    """Detectron2's mapper with pictures read as in search and classification.

    Args:
        broken_images: ``skip`` or ``stop``. Of a skipped image there is None, for which a loader of
            a training takes another one; of an evaluation a record without ``image``, which
            :class:`ReadableBatches` leaves out.
        mixing: makes pictures of several; None for none.
        pipeline: of Albumentations, before Detectron2's augmentations; None for none.
        cuts: whether a picture may lose parts, so that objects end where it does.
        **kwargs: of Detectron2's.
    """

    @configurable
    def __init__(
        self,
        *args: Any,
        broken_images: str = "skip",
        mixing: Mixing | None = None,
        pipeline: AlbumentationsPipeline | None = None,
        cuts: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        self.broken = BrokenPictures(broken_images)
        self.mixing, self.pipeline, self.cuts = mixing, pipeline, cuts

    @classmethod
    def from_config(cls, cfg: Any, is_train: bool = True) -> dict[str, Any]:
        """Arguments for :class:`PictureMapper` from a config."""
        found = {**super().from_config(cfg, is_train), "broken_images": cfg.DATASETS.BROKEN_IMAGES}
        if not is_train:
            return found
        found["mixing"] = Mixing.from_config(cfg)
        if cfg.INPUT.ALBUMENTATIONS:
            path, image_format = cfg.INPUT.ALBUMENTATIONS, cfg.INPUT.FORMAT
            found["pipeline"] = AlbumentationsPipeline(path, image_format=image_format)
        more = build_augmentations(cfg.INPUT.AUGMENTATIONS)
        place = int(cfg.INPUT.CROP.ENABLED)  # after the crop, before the resize
        found["augmentations"][place:place] = more
        found["cuts"] = bool(
            cfg.INPUT.CROP.ENABLED or more or found["mixing"] or cfg.INPUT.ALBUMENTATIONS
        )
        found["recompute_boxes"] = found["cuts"] and cfg.MODEL.MASK_ON
        return found

    def __call__(
        self, dataset_dict: Record, draw: Callable[[], Record] | None = None
    ) -> Record | None:
        """One image with its objects, augmented.

        Args:
            dataset_dict: a record in Detectron2's form; it stays as it is.
            draw: gives another record, for ``mixing``; None: nothing is mixed.

        Raises:
            DataError: the image can't be read, and the policy is to stop.
        """
        record = copy.deepcopy(dataset_dict)
        image = self._read(record)
        if image is None:
            return None if self.is_train else {"image_id": record.get("image_id")}
        if self.mixing is not None and draw is not None:
            picture = Picture(image, record["annotations"])
            image, record["annotations"] = self.mixing(picture, lambda: self._draw(draw))
        if self.pipeline is not None and "annotations" in record:
            for annotation in record["annotations"] if not self.use_instance_mask else ():
                annotation.pop("segmentation", None)
            image, record["annotations"] = self.pipeline(image, record["annotations"])
        segments = record.pop("sem_seg_file_name", None)
        if segments is not None:  # numbers of classes, so they are read as they lie there
            segments = detection_utils.read_image(segments, "L").squeeze(2)
        given = T.AugInput(image, sem_seg=segments)
        transforms = self.augmentations(given)
        shape = given.image.shape[:2]
        record["image"] = torch.as_tensor(np.ascontiguousarray(given.image.transpose(2, 0, 1)))
        if given.sem_seg is not None:
            record["sem_seg"] = torch.as_tensor(given.sem_seg.astype("long"))
        if self.proposal_topk is not None:
            detection_utils.transform_proposals(
                record, shape, transforms, proposal_topk=self.proposal_topk
            )
        if not self.is_train:
            record.pop("annotations", None)
        elif "annotations" in record:
            self._transform_annotations(record, transforms, shape)
        return record

    def _read(self, record: Record) -> np.ndarray | None:
        """The picture (H, W, C) of a record; None where it can't be read and is skipped."""
        try:
            image = read_image(record["file_name"], self.image_format)
        except PictureError as error:
            self.broken.add(describe_broken(record["file_name"], error))
            return None
        detection_utils.check_image_size(record, image)
        return image

    def _draw(self, draw: Callable[[], Record]) -> Picture:
        for _ in range(MAX_TRIES):
            record = copy.deepcopy(draw())
            image = self._read(record)
            if image is not None:
                return Picture(image, record["annotations"])
        raise DataError(f"{MAX_TRIES} pictures in a row that were drawn can't be read")

    def _transform_annotations(
        self, dataset_dict: Record, transforms: T.TransformList, image_shape: tuple[int, int]
    ) -> None:
        """As Detectron2's; where ``cuts`` is on, objects end where the picture does."""
        if not self.cuts:
            super()._transform_annotations(dataset_dict, transforms, image_shape)
            return
        left_out = {"segmentation": not self.use_instance_mask, "keypoints": not self.use_keypoint}
        found = []
        for annotation in dataset_dict.pop("annotations"):
            if annotation.get("iscrowd", 0):
                continue
            kept = {key: value for key, value in annotation.items() if not left_out.get(key)}
            indices = self.keypoint_hflip_indices
            changed = transform_object(
                kept, transforms, image_shape, keypoint_hflip_indices=indices
            )
            if changed is not None:
                found.append(changed)
        instances = detection_utils.annotations_to_instances(
            found, image_shape, mask_format=self.instance_mask_format
        )
        if self.recompute_boxes and found:
            instances.gt_boxes = instances.gt_masks.get_bounding_boxes()
        dataset_dict["instances"] = detection_utils.filter_empty_instances(instances)


class ReadableBatches:
    """The batches of an evaluation's loader without images that can't be read.

    Attributes:
        loader: whose batches are lists of records.
        num_broken: images that were left out so far.
    """

    def __init__(self, loader: Any) -> None:
        self.loader = loader
        self.num_broken = 0

    def __len__(self) -> int:
        return len(self.loader)

    def __iter__(self) -> Iterator[list[Record]]:
        batches: Iterable[list[Record]] = self.loader
        for batch in batches:
            whole = [record for record in batch if "image" in record]
            self.num_broken += len(batch) - len(whole)
            if whole:
                yield whole
        if self.num_broken:
            logger.warning(
                "%d images can't be read; their objects count as not found", self.num_broken
            )
