"""What a teacher says of each training image, asked once and kept in a file.

The teacher sees each image whole, the student its augmented parts of it. That is less than asking
the teacher about every part, and costs one pass over the images instead of one an epoch.
"""

from __future__ import annotations

import hashlib
import json
import logging
from pathlib import Path

import numpy as np
import torch
from yacs.config import CfgNode

from nasnet_det.classification.augment import build_whole_transform
from nasnet_det.classification.data import Images
from nasnet_det.classification.distributed import is_main_process, wait_for_all
from nasnet_det.classification.predictor import DTYPES, autocast
from nasnet_det.classification.teachers import Teacher, TeacherOutput
from nasnet_det.runs.files import FileError, write_whole_file

_BATCH_SIZE = 32

logger = logging.getLogger(__name__)


class TeacherCache:
    """The outputs of a teacher for all training images, in ``OUTPUT_DIR``.

    The file has a row of float16 for each image, NaN as long as the teacher was not asked: a
    process that was killed goes on with the others.

    Args:
        cfg: the config; its folder has to be there.
        teacher: who is asked.
        images: of the training.
        device: of the teacher.

    Raises:
        FileError: the file can't be written.
    """

    def __init__(
        self, cfg: CfgNode, teacher: Teacher, images: Images, device: torch.device
    ) -> None:
        size = teacher.image_size or cfg.DATA.IMAGE_SIZE
        self._transform, self._device = build_whole_transform(size), device
        output = teacher(torch.zeros(1, 3, size, size, device=device))
        self._num_logits = output.logits.shape[1]
        num_features = 0 if output.features is None else output.features.shape[1]
        shape = (len(images), self._num_logits + num_features)
        self._dtype = DTYPES[cfg.SOLVER.PRECISION]
        about = [teacher.name, size, cfg.DATA.PATH, cfg.DISTILL.IMAGES, cfg.SEED, shape]
        about.append(cfg.SOLVER.PRECISION)
        name = hashlib.sha256(json.dumps(about).encode()).hexdigest()[:12]
        self.path = Path(cfg.OUTPUT_DIR, f"teacher-{name}.npy")
        if is_main_process():
            self._fill(teacher, images, shape)
        wait_for_all()
        self._rows = np.load(self.path, mmap_mode="r")

    def __call__(self, images: torch.Tensor, indices: torch.Tensor) -> TeacherOutput:
        """What the teacher said of the images with these indices; the images are not looked at."""
        rows = torch.from_numpy(self._rows[indices.numpy()]).to(images.device).float()
        logits, features = rows.split([self._num_logits, rows.shape[1] - self._num_logits], dim=1)
        return TeacherOutput(logits, features if features.shape[1] else None)

    def _fill(self, teacher: Teacher, images: Images, shape: tuple[int, int]) -> None:
        if not self.path.is_file():
            nothing = np.full(shape, np.nan, dtype=np.float16)
            write_whole_file(self.path, lambda file: np.save(file, nothing))
        try:
            rows = np.load(self.path, mmap_mode="r+")
        except (OSError, ValueError) as error:
            raise FileError(f"{self.path} can't be read ({error}); remove it") from None
        missing = np.flatnonzero(np.isnan(rows).any(axis=1))
        if len(missing):
            logger.info("Asking %s about %d images, once", teacher.name, len(missing))
        for start in range(0, len(missing), _BATCH_SIZE):
            chosen, pictures = [], []
            for index in missing[start : start + _BATCH_SIZE]:
                try:
                    pictures.append(self._transform(images.read(int(index))[0]))
                except (
                    Exception
                ):  # decoders raise anything; the training names it and takes another
                    continue
                chosen.append(index)
            if not chosen:
                continue
            with autocast(self._device, self._dtype):
                output = teacher(torch.stack(pictures).to(self._device))
            parts = [part for part in output if part is not None]
            rows[chosen] = torch.cat(parts, dim=1).cpu().numpy()
            if start // _BATCH_SIZE % 50 == 0:
                logger.info("%s: %d of %d", teacher.name, start + len(chosen), len(missing))
        rows.flush()
