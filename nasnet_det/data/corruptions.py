"""Pictures as bad cameras, weather and compression make them, by imagecorruptions-imaug.

Its corruptions are those of ImageNet-C (arXiv 1903.12261), for pictures of any size, as the
benchmark of detectors takes them (arXiv 1907.07484). What is drawn depends on the picture's seed
alone. No pixel belongs to another object afterwards, so boxes stay.
"""

from __future__ import annotations

import contextlib
import inspect
import io
import warnings
from collections.abc import Sequence
from importlib import metadata
from typing import Any
from zlib import crc32

import numpy as np

from nasnet_det.errors import InputError, requires
from nasnet_det.near_names import nearest
from nasnet_det.runs.seeds import derive_seed, seeded

COMMON = (
    *("gaussian_noise", "shot_noise", "impulse_noise"),
    *("defocus_blur", "glass_blur", "motion_blur", "zoom_blur"),
    *("snow", "frost", "fog", "brightness"),
    *("contrast", "elastic_transform", "pixelate", "jpeg_compression"),
)
"""The fifteen of the benchmark: noise, blur, weather, and what is digital."""
MORE = ("speckle_noise", "gaussian_blur", "spatter", "saturate")
"""Four that ImageNet-C keeps for validation."""
SEVERITIES = (1, 2, 3, 4, 5)
PACKAGE = "imagecorruptions-imaug"
LEAST_SIDE = 32  # of the package's pictures, in pixels


def check_corruptions(names: Sequence[str], severities: Sequence[int]) -> None:
    """See that corruptions can be made.

    Raises:
        InputError: there is no such corruption or severity, or one is there twice.
        MissingPackageError: the package is not installed.
    """
    known = (*COMMON, *MORE)
    for name in names:
        if name not in known:
            raise InputError(f"corruption: unknown name {name!r}, {nearest(name, known)}")
    for severity in severities:
        if severity not in SEVERITIES:
            raise InputError(f"severity: wanted 1 to {SEVERITIES[-1]}, got {severity}")
    for what, given in (("corruption", names), ("severity", severities)):
        if not given or len(set(given)) < len(given):
            shown = " ".join(map(str, given)) or "none"
            raise InputError(f"{what}: wanted one or more, each once, got {shown}")
    name_package()


def name_package() -> str:
    """The package and its version, such as ``imagecorruptions-imaug 1.1.5``.

    Raises:
        MissingPackageError: it is not installed.
    """
    with requires("corruptions"):
        import imagecorruptions  # noqa: F401
    for package in (PACKAGE, "imagecorruptions"):  # its forerunner has the same module
        with contextlib.suppress(metadata.PackageNotFoundError):
            return f"{package} {metadata.version(package)}"
    return PACKAGE


def corrupt_picture(
    image: np.ndarray, corruption: str, severity: int, *, key: object
) -> np.ndarray:
    """A picture, corrupted.

    Args:
        image: (H, W, 3) uint8, RGB; it stays as it is.
        corruption: one of :data:`COMMON` or :data:`MORE`.
        severity: 1 to 5.
        key: of the picture, such as its id; with the others it is the seed.

    Returns:
        (H, W, 3) uint8.

    Raises:
        MissingPackageError: the package is not installed.
    """
    with requires("corruptions"):
        from imagecorruptions import corrupt
        from imagecorruptions.corruptions import __dict__ as functions
    height, width = image.shape[:2]
    rows, columns = max(0, LEAST_SIDE - height), max(0, LEAST_SIDE - width)
    padded = np.pad(image, ((0, rows), (0, columns), (0, 0)), mode="edge")
    seed = derive_seed(0, crc32(repr(key).encode()), crc32(corruption.encode()), severity)
    own: dict[str, Any] = {}
    if "seed" in inspect.signature(functions[corruption]).parameters:
        own["seed"] = seed
    with seeded(seed), warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        changed = corrupt(padded, severity=severity, corruption_name=corruption, **own)
    return np.ascontiguousarray(changed[:height, :width])
