"""CIFAR-10, or a data set like it, as children are trained on it.

All images are held as one tensor of bytes, and a whole batch is augmented at once: a few
milliseconds of one CPU core, and the same code on a GPU. The paper's recipe (arXiv 1707.07012,
appendix A.3): 5,000 of the 50,000 training images are held out and their accuracy is the reward;
images are upsampled to 40x40, a random 32x32 crop is taken and flipped at random, and the colors
are whitened (here: mean 0 and standard deviation 1 for each color over the training images).
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F

from nasnet_det.data.broken_pictures import check_policy
from nasnet_det.data.error import DataError
from nasnet_det.data.image_sets import ImageSet, load_images
from nasnet_det.near_names import nearest
from nasnet_det.runs.seeds import derive_seed
from nasnet_det.search.streams import Stream

RESIZES = ("bilinear", "bicubic")
"""Both are smoothed where an image shrinks; classifiers are trained and evaluated with bicubic."""
_CHUNK = 1000  # images that are resized at once, to save memory


@dataclass(frozen=True)
class DataSource:
    """Where children's images come from, and how they are used.

    Attributes:
        path: a folder that holds torchvision's ``cifar-10-batches-py``, an ``.npz`` file with
            ``x_train`` (N, H, W, 3) uint8 and ``y_train`` (N,) or (N, 1), one of encoded pictures
            (``encoded_pictures.py``), a folder with one sub-folder of images for each class, or
            one with such a folder ``train`` in it.
        num_held_out: images that are held out as the reward.
        num_train: images to train on; 0 for all others.
        image_size: height and width that the network sees; images of another size are resized.
        upsampled_size: height and width from which the random crop is taken.
        flip: whether half of the crops are mirrored.
        resize: how images get another size, of :data:`RESIZES`.
        broken_images: what is done about images that can't be read (``broken_pictures.py``).
        seed: decides, with the number of images, which of them are held out.
    """

    path: str
    num_held_out: int = 5000
    num_train: int = 0
    image_size: int = 32
    upsampled_size: int = 40
    flip: bool = True
    resize: str = "bilinear"
    broken_images: str = "skip"
    seed: int = 0


@dataclass(frozen=True)
class ChildData:
    """The images of a :class:`DataSource`, ready for training, all on one device.

    Attributes:
        train: upsampled images.
        held_out: images of ``image_size``.
        num_classes: number of classes.
        image_size: height and width that the network sees.
        flip: whether half of the crops are mirrored.
        mean, std: (1, 3, 1, 1) float32, in the scale of bytes.
    """

    train: ImageSet
    held_out: ImageSet
    num_classes: int
    image_size: int
    flip: bool
    mean: torch.Tensor
    std: torch.Tensor

    def to(self, device: str) -> ChildData:
        """The same on a device."""
        train, held_out = (
            ImageSet(*(t.to(device) for t in part)) for part in (self.train, self.held_out)
        )
        mean, std = self.mean.to(device), self.std.to(device)
        return replace(self, train=train, held_out=held_out, mean=mean, std=std)

    def checksum(self) -> int:
        """A number that other images, another split or other sizes almost surely change."""
        number = 0
        for tensor in (*self.train, *self.held_out):
            number = zlib.crc32(tensor.cpu().contiguous().numpy().tobytes(), number)
        return number

    def train_batches(
        self, batch_size: int, generator: torch.Generator
    ) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """One epoch of augmented batches, (B, 3, H, W) float32 and (B,) int64.

        All batches have ``batch_size`` images (or all images, where these are fewer); the rest of
        the shuffled images is left out.

        Args:
            batch_size: B.
            generator: of the CPU, whatever the device, so that the choices are the same.
        """
        order = torch.randperm(len(self.train.labels), generator=generator)
        batch_size = min(batch_size, len(order))
        for batch in order[: len(order) // batch_size * batch_size].split(batch_size):
            images = crop_and_flip(
                self.train.images, batch, self.image_size, generator, flip=self.flip
            )
            yield self._whiten(images), self.train.labels[batch.to(self.train.labels.device)]

    def held_out_batches(self, batch_size: int) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """All held-out images in order, whitened, in batches of at most ``batch_size``."""
        for images, labels in zip(*(t.split(batch_size) for t in self.held_out), strict=True):
            yield self._whiten(images), labels

    def _whiten(self, images: torch.Tensor) -> torch.Tensor:
        return (images.float() - self.mean) / self.std


def crop_and_flip(
    images: torch.Tensor,
    batch: torch.Tensor,
    size: int,
    generator: torch.Generator,
    *,
    flip: bool = True,
) -> torch.Tensor:
    """Random crops of some images.

    Args:
        images: (N, C, H, W).
        batch: (B,) which images, on the CPU.
        size: height and width of the crops.
        generator: of the CPU.
        flip: mirror half of them.

    Returns:
        (B, C, size, size), gathered in one step.
    """
    num_places = images.shape[2] - size + 1
    top = torch.randint(num_places, (len(batch), 1), generator=generator)
    left = torch.randint(num_places, (len(batch), 1), generator=generator)
    flipped = torch.randint(2, (len(batch), 1), generator=generator).bool() & flip
    along = torch.arange(size)
    rows = top + along
    columns = left + torch.where(flipped, size - 1 - along, along)
    batch, rows, columns = (t.to(images.device) for t in (batch, rows, columns))
    crops = images.permute(0, 2, 3, 1)[batch[:, None, None], rows[:, :, None], columns[:, None, :]]
    return crops.permute(0, 3, 1, 2)


def load_child_data(source: DataSource) -> ChildData:
    """Read, split, upsample and measure the images of a source.

    Raises:
        DataError: they are missing, have other shapes, or are too few for the split.
    """
    _check_sizes(source)
    check_policy("SEARCH.DATA.BROKEN_IMAGES", source.broken_images)
    images, labels = load_images(source.path, source.image_size, broken_images=source.broken_images)
    held_out, train = _split(len(labels), source)
    mode = source.resize
    train_images = resize(images[train], source.image_size, mode)
    mean, std = _measure(train_images)
    return ChildData(
        ImageSet(resize(train_images, source.upsampled_size, mode), labels[train]),
        ImageSet(resize(images[held_out], source.image_size, mode), labels[held_out]),
        int(labels.max()) + 1,
        source.image_size,
        source.flip,
        mean,
        std,
    )


def _check_sizes(source: DataSource) -> None:
    for name, least in (("image_size", 1), ("num_held_out", 1), ("num_train", 0)):
        if getattr(source, name) < least:
            raise DataError(f"{name}: wanted at least {least}, got {getattr(source, name)}")
    if source.resize not in RESIZES:
        raise DataError(
            f"SEARCH.DATA.RESIZE: unknown way {source.resize!r}, {nearest(source.resize, RESIZES)}"
        )
    if source.upsampled_size < source.image_size:
        raise DataError(
            f"upsampled_size: wanted at least image_size, {source.image_size}, "
            f"got {source.upsampled_size}"
        )


def _split(num_images: int, source: DataSource) -> tuple[torch.Tensor, torch.Tensor]:
    """Which images are held out, and which are trained on."""
    wanted = source.num_held_out + max(1, source.num_train)
    if num_images < wanted:
        raise DataError(
            f"{source.path}: wanted at least {wanted} training images, {source.num_held_out} of "
            f"them held out, got {num_images}"
        )
    generator = torch.Generator().manual_seed(derive_seed(source.seed, Stream.SPLIT, 0))
    order = torch.randperm(num_images, generator=generator)
    stop = source.num_held_out + source.num_train if source.num_train else num_images
    return order[: source.num_held_out], order[source.num_held_out : stop]


def resize(images: torch.Tensor, size: int, mode: str = "bilinear") -> torch.Tensor:
    """(N, C, H, W) uint8 -> (N, C, size, size) uint8, as one of :data:`RESIZES`."""
    if images.shape[2:] == (size, size):
        return images
    parts = []
    for part in images.split(_CHUNK):
        # Bicubic as torchvision does it for classifiers: bytes, between its two passes too.
        pixels = part if mode == "bicubic" else part.float()
        pixels = F.interpolate(pixels, (size, size), mode=mode, antialias=True)
        parts.append(pixels if mode == "bicubic" else pixels.round_().clamp_(0, 255).byte())
    return torch.cat(parts)


def _measure(images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean and standard deviation of each color, from counts: exact with any number of threads."""
    values = torch.arange(256, dtype=torch.float64)
    counts = torch.stack(
        [torch.bincount(color.flatten(), minlength=256) for color in images.unbind(1)]
    ).double()
    shares = counts / counts.sum(dim=1, keepdim=True)
    mean = shares @ values
    std = (shares * (values - mean[:, None]) ** 2).sum(dim=1).sqrt()
    std = std.clamp(min=1.0)  # of a byte; where a color never changes it would be 0
    return mean.float().view(1, -1, 1, 1), std.float().view(1, -1, 1, 1)
