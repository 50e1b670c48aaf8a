"""The published weights by name: ``nasnet://nasnet_a_large.timm`` stands for a file of ours.

The name is that of the network and that of who published it, a key of :data:`PUBLISHED`; behind
``nasnet://`` the path of a published file will do as well. A file that is in none of the folders
where it may lie is downloaded from its publisher into the cache folder, and verified. It is
converted once, into ``converted/`` of that folder: ``$NASNET_DET_CACHE``, or
``~/.cache/nasnet_det``.
"""

from __future__ import annotations

import logging
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import torch
from iopath.common.file_io import PathHandler, file_lock

from nasnet_det.near_names import nearest
from nasnet_det.version import __version__
from nasnet_det.weights.classifier import ConvertedWeights
from nasnet_det.weights.conversion import convert_file
from nasnet_det.weights.download import DownloadError, download
from nasnet_det.weights.error import WeightsError
from nasnet_det.weights.file import hash_file, read_description, read_weights, write_weights
from nasnet_det.weights.matching import NUM_CLASSES
from nasnet_det.weights.packaged import PREFIX, find_packaged, list_packaged

_PREFIX_BEFORE_ROOT = "nasnet:"  # Python's urlunparse makes nasnet:/a/b of nasnet:///a/b

_TIMM = "https://github.com/huggingface/pytorch-image-models/releases/download/v0.1-weights"
_CADENE = "http://data.lip6.fr/cadene/pretrainedmodels"
_KERAS = "https://storage.googleapis.com/tensorflow/keras-applications/nasnet"
_TENSORFLOW = "https://storage.googleapis.com/download.tensorflow.org/models"
_HASH_IN_NAME = re.compile(r"-([0-9a-f]{8})\.pth$")  # torch.hub's rule

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class PublishedFile:
    """Where a published file comes from.

    Attributes:
        names: under which it may lie in a folder, the publisher's own first. Where that ends with
            ``-<8 digits>.pth``, its SHA-256 begins with these.
        url: what to download.
        digest: ``sha256:`` or ``md5:`` and its (beginning of a) hash, as the publisher says it; ""
            where he says none, and then nothing is downloaded.
        hub: the repository on the Hugging Face hub in which timm has it as model.safetensors.
        num_classes: that the weights tell apart, after their conversion.
    """

    names: tuple[str, ...]
    url: str
    digest: str = ""
    hub: str = ""
    num_classes: int = NUM_CLASSES


def _torch_file(folder: str, name: str, hub: str = "") -> PublishedFile:
    digest = f"sha256:{_HASH_IN_NAME.search(name)[1]}"  # type: ignore[index]
    return PublishedFile((name,), f"{folder}/{name}", digest, hub)


def _keras_file(name: str, md5: str) -> PublishedFile:
    names = (f"NASNet-{name}.h5", f"nasnet_{name}.h5")
    return PublishedFile(names, f"{_KERAS}/{names[0]}", f"md5:{md5}")


def _checkpoint(name: str, folder: str = "", num_classes: int = NUM_CLASSES) -> PublishedFile:
    url = f"{_TENSORFLOW}/{folder}{name}.tar.gz (unpacked, as the folder {name})"
    return PublishedFile((f"{name}/model.ckpt.index",), url, num_classes=num_classes)


PUBLISHED: dict[str, PublishedFile] = {
    "nasnet_a_large.timm": _torch_file(
        _TIMM, "nasnetalarge-dc4a7b8b.pth", hub="timm/nasnetalarge.tf_in1k"
    ),
    "pnasnet_5_large.timm": PublishedFile(
        ("pnasnet5large.safetensors",),
        "https://huggingface.co/timm/pnasnet5large.tf_in1k/resolve/main/model.safetensors",
        hub="timm/pnasnet5large.tf_in1k",
    ),
    "nasnet_a_large.cadene": _torch_file(_CADENE, "nasnetalarge-a1897284.pth"),
    "nasnet_a_mobile.cadene": _torch_file(_CADENE, "nasnetamobile-7e03cead.pth"),
    "pnasnet_5_large.cadene": _torch_file(_CADENE, "pnasnet5large-bf079911.pth"),
    "nasnet_a_large.keras": _keras_file("large", "11577c9a518f0070763c2b964a382f17"),
    "nasnet_a_mobile.keras": _keras_file("mobile", "020fb642bf7360b370c678b08e0adf61"),
    "nasnet_a_large.tf_slim": _checkpoint("nasnet-a_large_04_10_2017"),
    "nasnet_a_mobile.tf_slim": _checkpoint("nasnet-a_mobile_04_10_2017"),
    "nasnet_a_large.tf_detection": _checkpoint(
        "faster_rcnn_nas_coco_2018_01_28", folder="object_detection/", num_classes=80
    ),
}
"""``<variant>.<origin>`` -> its file. Sources: timm's and Cadene's model files, Keras's
applications/nasnet.py, the READMEs of TF-slim and of TensorFlow's detection model zoo."""


def cache_folder() -> Path:
    """Where published files are looked for first, and where converted ones are kept."""
    return Path(os.environ.get("NASNET_DET_CACHE") or Path.home() / ".cache" / "nasnet_det")


def fetch_published(name: str) -> str:
    """The path of a published file under our names, converted where that has not been done yet.

    Args:
        name: a key of :data:`PUBLISHED`, the name of weights that come with the package, or the
            path of a published file; ``nasnet://`` may stand in front of it.

    Returns:
        a ``.pth`` in the cache folder, which Detectron2's own checkpointer loads too; for the
        package's own weights their file in it.

    Raises:
        CheckpointError: the file is not there and can't be had (the sentence says what to do), is
            damaged, or is not what its name says.
    """
    name = name.removeprefix(PREFIX).removeprefix(_PREFIX_BEFORE_ROOT)
    if packaged := find_packaged(name):
        return packaged
    source, entry = _find(name)
    digest = hash_file(source)
    wanted = _HASH_IN_NAME.search(source) if entry else None
    if wanted and not digest.startswith(wanted[1]):
        raise WeightsError(
            f"{source} is damaged: its SHA-256 begins with {digest[:8]}, not with {wanted[1]}; "
            "download it again"
        )
    label = name if entry else Path(name).stem
    target = cache_folder() / "converted" / f"{label}-{digest[:12]}-{__version__}.pth"
    try:
        with file_lock(str(target)):  # of several processes one converts
            if not target.is_file():
                logger.info("Converting %s, once, to %s", source, target)
                converted = _convert(source, name, entry) if entry else convert_file(source)
                write_weights(str(target), converted.weights, converted.metadata)
    except OSError as error:
        raise WeightsError(
            f"{target} can't be written ({error.strerror or error}); NASNET_DET_CACHE names "
            "another folder"
        ) from None
    return str(target)


def find_weights(path: str) -> str:
    """``path`` as it is, or that of :func:`fetch_published` where it begins with ``nasnet://``."""
    return fetch_published(path) if path.startswith(PREFIX) else path


def load_published(path: str) -> ConvertedWeights:
    """Weights from a converted file, a published one, or ``nasnet://`` with a name.

    Args:
        path: the file.

    Raises:
        CheckpointError: see :func:`fetch_published` and
            :func:`~nasnet_det.weights.conversion.convert_file`.
    """
    path = find_weights(path)
    description = read_description(path)
    if not description:
        return convert_file(path)
    return ConvertedWeights(read_weights(path)["model"], description)


class PublishedWeightsHandler(PathHandler):
    """``nasnet://`` for a path manager of iopath's, such as Detectron2's."""

    def _get_supported_prefixes(self) -> list[str]:
        return [PREFIX, f"{_PREFIX_BEFORE_ROOT}/"]

    def _get_local_path(self, path: str, force: bool = False, **kwargs: Any) -> str:
        self._check_kwargs(kwargs)
        return fetch_published(path)

    def _open(
        self, path: str, mode: str = "r", buffering: int = -1, **kwargs: Any
    ) -> IO[str] | IO[bytes]:
        self._check_kwargs(kwargs)
        return open(fetch_published(path), mode, buffering)


def _find(name: str) -> tuple[str, PublishedFile | None]:
    """The published file, and its entry unless it was named by its path."""
    entry = PUBLISHED.get(name)
    if entry is None:
        if any(os.path.isfile(name + ending) for ending in ("", ".index")):
            return name, None
        raise WeightsError(
            f"{PREFIX}{name}: there is no such file, and no published network has this name, "
            + nearest(name, [*PUBLISHED, *list_packaged()])
        )
    folders = [cache_folder()]
    if name.endswith((".timm", ".cadene")):
        folders.append(Path(torch.hub.get_dir(), "checkpoints"))
    elif name.endswith(".keras"):
        folders.append(Path(os.environ.get("KERAS_HOME") or Path.home() / ".keras", "models"))
    for path in (folder / file for folder in folders for file in entry.names):
        if path.is_file():
            return str(path), entry
    hub = ""
    if entry.hub:
        fetched, fault = _fetch_from_hub(entry.hub)
        if fetched:
            return fetched, entry
        hub = f"{entry.hub} can't be had from the hub ({fault}), and "
    fault = "its publisher names no hash" if not entry.digest else ""
    if not fault:
        target = cache_folder() / entry.names[0]
        try:
            with file_lock(str(target)):  # of several processes one downloads
                if not target.is_file():
                    download(entry.url, target, digest=entry.digest)
            return str(target), entry
        except (DownloadError, OSError) as error:
            fault = str(error)
    raise WeightsError(
        f"{PREFIX}{name}: {hub}{entry.names[0]} is in none of the folders "
        f"{', '.join(map(str, folders))}, and is not downloaded ({fault}): get it from "
        f"{entry.url} and put it there under that name, or let NASNET_DET_CACHE name its folder"
    )


def _fetch_from_hub(repository: str) -> tuple[str, str]:
    """The path in the hub's cache, which is timm's too, or "" and why there is none."""
    try:
        from huggingface_hub import hf_hub_download
    except ImportError:
        return "", "that needs timm: pip install timm"
    try:
        return hf_hub_download(repository, "model.safetensors", library_name="timm"), ""
    except Exception as error:  # everything that a network can do
        return "", f"{' '.join(str(error).split()) or type(error).__name__:.150}"


def _convert(source: str, name: str, entry: PublishedFile) -> ConvertedWeights:
    variant, _, origin = name.partition(".")
    converted = convert_file(source, origin=origin, variant=variant)
    num_classes = converted.metadata["num_classes"]
    if num_classes != entry.num_classes:
        raise WeightsError(
            f"{source} is not the published file {PREFIX}{name}: wanted {entry.num_classes} "
            f"classes, got {num_classes}"
        )
    return converted
