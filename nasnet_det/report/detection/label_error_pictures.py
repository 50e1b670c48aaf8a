"""What is annotated and what is found, cut out of the picture, for each likely label error."""

from __future__ import annotations

import functools
import io
from collections.abc import Sequence
from pathlib import Path

import matplotlib
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from nasnet_det.data.pictures import read_picture
from nasnet_det.report.detection.evaluation import Evaluation
from nasnet_det.report.detection.label_error_list import LabelErrorRow, list_label_errors
from nasnet_det.report.detection.pictures import JPEG_QUALITY, RIGHT, WRONG

NUM_PICTURES = 40
SIDE, MARGIN = 260, 0.6  # pixels of the longer side; of the boxes' own side, around them
LEAST = 48  # pixels of the picture that are shown at least
OTHERS = "#BBBBBB"


def draw_label_errors(
    evaluation: Evaluation, folder: Path
) -> tuple[list[tuple[LabelErrorRow, bytes]], list[str]]:
    """The first :data:`NUM_PICTURES` as JPEG, and a sentence about each that can't be read."""
    rows = list_label_errors(evaluation).rows[:NUM_PICTURES]
    drawn, notes = [], []
    for row, error in zip(rows, evaluation.label_errors, strict=False):
        mine = evaluation.truth.boxes[evaluation.truth.image == error.image]
        try:
            drawn.append((row, draw_label_error(row, mine, folder)))
        except ValueError as fault:
            notes.append(f"A picture is missing: {fault}.")
    return drawn, list(dict.fromkeys(notes))


def draw_label_error(row: LabelErrorRow, annotated: np.ndarray, folder: Path) -> bytes:
    """A JPEG: the annotated box, and dashed what is found; other annotations are grey.

    Args:
        row: the error.
        annotated: (n, 4), all boxes of the picture.
        folder: of the pictures.

    Raises:
        PictureError: the picture is not in the folder, or can't be read.
    """
    image = read_picture(folder / row.file_name)
    boxes = np.array([box for box in (row.annotated_box, row.found_box) if box])
    left, top, right, bottom = _choose_view(boxes, image.size)
    scale = SIDE / max(right - left, bottom - top)
    size = (max(1, round(scale * (right - left))), max(1, round(scale * (bottom - top))))
    view = image.crop((left, top, right, bottom)).resize(size, Image.Resampling.BILINEAR)
    canvas = ImageDraw.Draw(view)

    def place(box: Sequence[float]) -> tuple[float, float, float, float]:
        x, y, width, height = box
        corners = (x - left, y - top, x + width - left, y + height - top)
        a, b, c, d = (scale * value for value in corners)
        return a, b, max(a, c), max(b, d)

    for box in annotated.tolist():
        canvas.rectangle(place(box), outline=OTHERS, width=1)
    if row.annotated_box:
        _draw_box(canvas, place(row.annotated_box), str(row.annotated), RIGHT["edgecolor"])
    if row.found_box:
        label = f"{row.found} {row.score:.2f}"
        _draw_box(canvas, place(row.found_box), label, WRONG["edgecolor"], is_dashed=True)
    buffer = io.BytesIO()
    view.save(buffer, "JPEG", quality=JPEG_QUALITY)
    return buffer.getvalue()


def _choose_view(boxes: np.ndarray, size: tuple[int, int]) -> tuple[int, int, int, int]:
    """Left, top, right and bottom of what is shown, within the picture."""
    low, high = boxes[:, :2].min(axis=0), (boxes[:, :2] + boxes[:, 2:]).max(axis=0)
    half = np.maximum((high - low) * (0.5 + MARGIN), LEAST / 2)
    middle = (low + high) / 2
    ends = np.concatenate([middle - half, middle + half])
    left, top, right, bottom = np.clip(ends, 0, [*size, *size]).astype(int).tolist()
    return left, top, max(right, left + 1), max(bottom, top + 1)


def _draw_box(
    canvas: ImageDraw.ImageDraw,
    box: tuple[float, float, float, float],
    label: str,
    color: str,
    *,
    is_dashed: bool = False,
) -> None:
    x0, y0, _, y1 = box
    if is_dashed:
        _draw_dashes(canvas, box, color)
    else:
        canvas.rectangle(box, outline=color, width=2)
    y = y1 - 14 if is_dashed else y0
    corner = (max(x0, 0), min(max(y, 0), SIDE - 14))
    canvas.rectangle(canvas.textbbox(corner, label, font=_load_font()), fill=color)
    canvas.text(corner, label, fill="white", font=_load_font())


def _draw_dashes(
    canvas: ImageDraw.ImageDraw, box: tuple[float, float, float, float], color: str
) -> None:
    x0, y0, x1, y1 = box
    for a in np.arange(x0, x1, 8):
        for y in (y0, y1):
            canvas.line((a, y, min(a + 5, x1), y), fill=color, width=2)
    for a in np.arange(y0, y1, 8):
        for x in (x0, x1):
            canvas.line((x, a, x, min(a + 5, y1)), fill=color, width=2)


@functools.cache
def _load_font() -> ImageFont.FreeTypeFont:
    path = Path(matplotlib.get_data_path(), "fonts", "ttf", "DejaVuSans.ttf")
    return ImageFont.truetype(str(path), 11)
