"""The truth beside what was found, for images that scores choose: best, worst, most confused."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from nasnet_det.data.pictures import read_picture
from nasnet_det.report.detection.calibration import choose_threshold
from nasnet_det.report.detection.errors import TYPES
from nasnet_det.report.detection.evaluation import Evaluation

PER_CHOICE = 2
MAX_SIDE = 640  # pixels of a picture on the page
JPEG_QUALITY = 85
# Right and wrong differ in the line, too.
RIGHT: dict[str, Any] = {"edgecolor": "#0072B2", "linestyle": "-"}
WRONG: dict[str, Any] = {"edgecolor": "#D55E00", "linestyle": (0, (4, 2))}
CHOICES = {
    "best": "the highest F1; of equal ones those with the most objects",
    "worst": "the lowest F1; of equal ones those with the most objects and wrong boxes",
    "most confused": "the most boxes of a wrong class",
}
_ALL_AREAS, _LEVEL_50 = 0, 0


@dataclass(frozen=True)
class Choice:
    """An image that is shown.

    Attributes:
        reason: key of :data:`CHOICES`.
        image: index into the data set's images.
        hits, wrong, missed: boxes above the threshold that are right and wrong, objects that none
            of these finds, at IoU 0.5.
        confused: boxes above the threshold whose class is wrong.
    """

    reason: str
    image: int
    hits: int
    wrong: int
    missed: int
    confused: int

    @property
    def f1(self) -> float:
        """From 0 to 1."""
        return 2 * self.hits / (2 * self.hits + self.wrong + self.missed)


def choose_images(evaluation: Evaluation, threshold: float | None = None) -> list[Choice]:
    """The images to show.

    Args:
        evaluation: of a run.
        threshold: only boxes with at least this score count; that with the best F1 over the data
            set if None, and 0 where nothing is right.
    """
    matches, errors = evaluation.matches, evaluation.errors
    threshold = _default_threshold(evaluation) if threshold is None else threshold
    is_shown = matches.score >= threshold
    match = matches.is_match[_ALL_AREAS, _LEVEL_50] & is_shown
    wrong = (errors.type >= 0) & is_shown
    kinds = [list(TYPES).index(name) for name in ("classification", "both")]
    confused = np.isin(errors.type, kinds) & is_shown

    def count(mask: np.ndarray) -> np.ndarray:
        return np.bincount(matches.image[mask], minlength=matches.num_images)

    hits, num_wrong, num_confused = count(match), count(wrong), count(confused)
    num_objects = matches.num_objects[_ALL_AREAS].sum(axis=0)
    total = hits + num_wrong + num_objects
    f1 = np.divide(2 * hits, total, out=np.zeros(len(hits)), where=total > 0)
    orders = {  # the last key counts first; then the order of the ids
        "best": np.lexsort((-num_objects, -f1)),
        "worst": np.lexsort((-total, f1)),
        "most confused": np.lexsort((f1, -num_confused)),
    }
    chosen: list[Choice] = []
    for reason, order in orders.items():
        usable = total[order] > 0
        if reason == "best":
            usable &= hits[order] > 0
        if reason == "most confused":
            usable &= num_confused[order] > 0
        seen = {choice.image for choice in chosen}
        for image in [i for i in order[usable] if i not in seen][:PER_CHOICE]:
            missed = num_objects[image] - hits[image]
            numbers = (hits[image], num_wrong[image], missed, num_confused[image])
            chosen.append(Choice(reason, int(image), *map(int, numbers)))
    return chosen


def _default_threshold(evaluation: Evaluation) -> float:
    return choose_threshold(evaluation.matches) or 0.0


def draw_image(
    evaluation: Evaluation, choice: Choice, folder: Path, threshold: float | None = None
) -> bytes:
    """A JPEG: the image with its objects, and beside it with the boxes that were found.

    Raises:
        PictureError: the image is not in the folder, or can't be read.
    """
    threshold = _default_threshold(evaluation) if threshold is None else threshold
    path = folder / evaluation.truth.file_names[choice.image]
    image = read_picture(path)
    size = image.size
    image.thumbnail((MAX_SIDE, MAX_SIDE))
    aspect = size[1] / size[0]
    figure = Figure(figsize=(9.0, 4.5 * aspect + 0.3), layout="constrained")
    left, right = figure.subplots(1, 2)
    for panel, title in ((left, "true (dashed: missed)"), (right, "found (dashed: wrong)")):
        panel.imshow(np.asarray(image), extent=(0, size[0], size[1], 0))
        panel.set_axis_off()
        panel.set_title(title, fontsize=9)
    _draw_truth(left, evaluation, choice.image, threshold)
    _draw_found(right, evaluation, choice.image, threshold)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="jpeg", dpi=110, pil_kwargs={"quality": JPEG_QUALITY})
    return buffer.getvalue()


def _draw_truth(panel: Axes, evaluation: Evaluation, image: int, threshold: float) -> None:
    truth, matches = evaluation.truth, evaluation.matches
    hit = matches.is_match[_ALL_AREAS, _LEVEL_50] & (matches.score >= threshold)
    found = set(matches.object[_LEVEL_50, hit].tolist())
    for number in np.flatnonzero((truth.image == image) & ~truth.is_crowd):
        style = RIGHT if int(number) in found else WRONG
        name = truth.category_names[truth.category[number]]
        _draw_box(panel, truth.boxes[number], name, style)


def _draw_found(panel: Axes, evaluation: Evaluation, image: int, threshold: float) -> None:
    truth, matches = evaluation.truth, evaluation.matches
    mine = np.flatnonzero((matches.image == image) & (matches.score >= threshold))
    for number in mine[np.argsort(matches.score[mine], kind="stable")]:
        if matches.is_ignored[_ALL_AREAS, _LEVEL_50, number]:
            continue
        is_right = matches.is_match[_ALL_AREAS, _LEVEL_50, number]
        name = truth.category_names[matches.category[number]]
        label = f"{name} {matches.score[number]:.2f}"
        _draw_box(panel, matches.box[number], label, RIGHT if is_right else WRONG)


def _draw_box(panel: Axes, box: Sequence[float], label: str, style: dict[str, Any]) -> None:
    x, y, width, height = box
    panel.add_patch(Rectangle((x, y), width, height, fill=False, linewidth=1.6, **style))
    panel.text(
        x, y, label, fontsize=6, va="bottom", color="white", clip_on=True,
        bbox={"facecolor": style["edgecolor"], "edgecolor": "none", "pad": 0.8},
    )  # fmt: skip
