"""Detectors by their files: a checkpoint with Detectron2, an ONNX file without it."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from functools import partial
from itertools import islice
from typing import Any, overload

from nasnet_det.errors import InputError
from nasnet_det.prediction.given import Picture, split_batch, to_pixels
from nasnet_det.runtime.choice import list_runtime_pairs, split_runtime
from nasnet_det.runtime.detections import Detections, Finder


class Detector:
    """A trained detector as a function of pictures; :func:`detect` makes it.

    Args:
        finder: finds objects in arrays.
        threshold: of the score, 0 to 1; what is below is left out.

    Attributes:
        threshold: may be changed.
    """

    def __init__(self, finder: Finder, *, threshold: float = 0.5) -> None:
        if not 0 <= threshold <= 1:
            raise InputError(f"threshold of the score: wanted 0 to 1, got {threshold}")
        self.finder, self.threshold = finder, threshold

    @property
    def categories(self) -> list[dict[str, Any]]:
        """``id``, as the data set of the training has it, and ``name`` of each class."""
        return self.finder.categories

    @overload
    def __call__(self, pictures: Picture) -> Detections: ...

    @overload
    def __call__(self, pictures: list[Any] | tuple[Any, ...]) -> list[Detections]: ...

    def __call__(self, pictures: Any) -> Detections | list[Detections]:
        """Find objects.

        Args:
            pictures: one or a list, or a batch in one array or tensor. Each is a path, a PIL
                image, an array (H, W, 3) of uint8 in RGB (OpenCV's ``image[:, :, ::-1]``), or a
                tensor (3, H, W) of uint8 or of floats from 0 to 1.

        Returns:
            what is in the picture, in its own pixels; a list where a list came.

        Raises:
            InputError: a picture can't be read, or is none of these.
        """
        several = split_batch(pictures)
        if several is None:
            return self._find([pictures])[0]
        found: list[Detections] = []
        while batch := list(islice(several, self.finder.batch_size)):
            found += self._find(batch)
        return found

    def _find(self, pictures: Sequence[Picture]) -> list[Detections]:
        found = self.finder.detect([to_pixels(picture) for picture in pictures])
        return [one[one.scores >= self.threshold] for one in found]


def detect(
    weights: str | os.PathLike[str],
    *,
    threshold: float = 0.5,
    batch_size: int = 1,
    device: str = "",
    runtime: str = "",
    config_file: str = "",
    opts: Sequence[str] = (),
) -> Detector:
    """A trained detector as a function of pictures.

    ``nasnet_det.detect("model_best.pth")("photo.jpg")`` has ``boxes``, ``scores`` and ``names``.

    Args:
        weights: a checkpoint of ``nasnet-det train``, or the ``.onnx`` file of ``nasnet-det
            export``, which needs no Detectron2.
        threshold: of the score, 0 to 1; what is below is left out.
        batch_size: pictures of one size that the network gets at a time.
        device: ``cpu``, ``cuda`` or ``cuda:1``; where it is empty, the config's.
        runtime: ``torch``, ``onnxruntime`` or ``openvino``, perhaps with ``:int8`` or
            ``:bfloat16``, as ``nasnet-det predict --runtime``.
        config_file: of the training, where neither the checkpoint nor its folder has it.
        opts: ``KEY VALUE`` pairs of the config, such as ``["TEST.TILES.SIZE", "800"]``.

    Raises:
        InputError: the file can't be read, or does not go with the others.
    """
    if not 0 <= threshold <= 1:
        raise InputError(f"threshold of the score: wanted 0 to 1, got {threshold}")
    open_finder = prepare_finder(
        os.fspath(weights),
        batch_size=batch_size,
        device=device,
        runtime=runtime,
        config_file=config_file,
        opts=opts,
    )
    return Detector(open_finder(), threshold=threshold)


def prepare_finder(
    weights: str = "",
    *,
    batch_size: int = 1,
    device: str = "",
    runtime: str = "",
    config_file: str = "",
    opts: Sequence[str] = (),
) -> Callable[[], Finder]:
    """What opens that which :func:`detect` looks with, after the checks that take no time.

    ``weights`` may stand in the config.
    """
    if weights.endswith(".onnx"):
        return _prepare_file(weights, device, runtime, config_file, opts)
    from nasnet_det.detection.config import get_checkpoint_config, get_config
    from nasnet_det.detection.prediction import open_predictor

    pairs = [*opts, *list_runtime_pairs(runtime)]
    if device:
        pairs += ["MODEL.DEVICE", device]
    if config_file:
        cfg = get_config(config_file, [*pairs, *(["MODEL.WEIGHTS", weights] if weights else [])])
    elif weights:
        cfg = get_checkpoint_config(weights, pairs)
    else:
        raise InputError("MODEL.WEIGHTS: wanted a detector's checkpoint or ONNX file, got none")
    return partial(open_predictor, cfg, batch_size=batch_size)


def _prepare_file(
    weights: str, device: str, runtime: str, config_file: str, opts: Sequence[str]
) -> Callable[[], Finder]:
    from nasnet_det.runtime.detector import OnnxDetector

    others = [key for key in opts[::2] if key != "MODEL.WEIGHTS"]
    if config_file or others:
        raise InputError(
            f"{weights} has all that it needs in it: wanted no config, got "
            f"{config_file or others[0]}"
        )
    name, precision = split_runtime(runtime or "onnxruntime")
    if name == "torch" or device not in ("", "cpu"):
        raise InputError(
            f"{weights}: wanted onnxruntime or openvino on a cpu, got {runtime or device}"
        )
    return partial(OnnxDetector.read, weights, runtime=name, precision=precision)
