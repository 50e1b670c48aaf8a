"""One small picture in some forty forms in which cameras, scanners and programs leave it."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

SIDE = 32
LOSSY = 12  # by so many of 255 a JPEG of the picture may differ


def draw_original() -> np.ndarray:
    """(32, 32, 3) uint8: soft colours, and no two sides alike."""
    rows, columns = np.mgrid[:SIDE, :SIDE]
    return np.dstack([rows * 7, columns * 5 + 20, 200 - 3 * rows - 2 * columns]).astype(np.uint8)


def to_grey(pixels: np.ndarray) -> np.ndarray:
    """(32, 32) uint8, by Pillow's weights."""
    return np.asarray(Image.fromarray(pixels).convert("L"))


def write_odd_pictures(folder: Path) -> dict[str, tuple[np.ndarray, int]]:
    """Write the pictures.

    Returns:
        name -> what a person sees, (32, 32, 3) uint8, and by how much a reader may differ.
    """
    folder.mkdir(parents=True, exist_ok=True)
    pixels = draw_original()
    image, grey = Image.fromarray(pixels), to_grey(pixels)
    seen: dict[str, tuple[np.ndarray, int]] = {}

    def write(
        name: str, picture: Any, wanted: np.ndarray, differs: int = 0, **options: Any
    ) -> None:
        picture = picture if isinstance(picture, Image.Image) else Image.fromarray(picture)
        picture.save(folder / name, **options)
        wanted = wanted if wanted.ndim == 3 else np.repeat(wanted[..., None], 3, axis=2)
        seen[name] = wanted, differs

    for name in ("plain.png", "plain.bmp", "plain.ppm", "plain.tif", "plain.tga", "CAPITALS.PNG"):
        write(name, image, pixels)
    for name in ("plain.jpg", "plain.jfif", "plain.JPEG"):
        write(name, image, pixels, LOSSY, quality=95, format="JPEG")
    write("no_suffix", image, pixels, format="PNG")
    write("lossless.webp", image, pixels, lossless=True)
    write("grey.png", grey, grey)
    write("grey.jpg", grey, grey, LOSSY, quality=95)
    write("grey_alpha.png", Image.fromarray(grey).convert("LA"), grey)
    write("cmyk.jpg", image.convert("CMYK"), pixels, LOSSY, quality=95)
    write("cmyk.tif", image.convert("CMYK"), pixels)
    write("opaque.png", image.convert("RGBA"), pixels)
    half = np.where(np.arange(SIDE) < SIDE // 2, 0, 255).astype(np.uint8)[None].repeat(SIDE, 0)
    on_paper = np.where(half[..., None] == 0, 255, pixels).astype(np.uint8)
    write("hidden_colours.png", np.dstack([pixels, half]), on_paper)
    palette = image.quantize(64)
    write("palette.png", palette, np.asarray(palette.convert("RGB")))
    clear = np.asarray(palette) == 3
    shown = np.where(clear[..., None], 255, np.asarray(palette.convert("RGB"))).astype(np.uint8)
    write("palette_clear.png", palette, shown, transparency=3)
    bits = Image.fromarray(grey > 100)
    write("bits.png", bits, np.asarray(bits.convert("L")))
    write("bits.tif", bits, np.asarray(bits.convert("L")), compression="group4")
    write("full_16.png", grey.astype(np.uint16) * 257, grey)
    write("full_16.tif", grey.astype(np.uint16) * 257, grey)
    write("twelve_of_16.png", grey.astype(np.uint16) * 16, grey, 1)
    write("eight_of_16.png", grey.astype(np.uint16), grey)
    write("int32.tif", grey.astype(np.int32) * 257, grey)
    write("float_1.tif", grey.astype(np.float32) / 255, grey)
    write("float_255.tif", grey.astype(np.float32), grey)
    low, high = int(grey.min()), int(grey.max())
    stretched = np.rint((grey.astype(float) - low) * 255 / (high - low)).astype(np.uint8)
    write("float_any.tif", grey.astype(np.float32) * 40 - 3000, stretched, 1)
    frames = {"save_all": True, "append_images": [Image.fromarray(255 - pixels)]}
    write("animated.gif", palette, np.asarray(palette.convert("RGB")), 3, **frames)
    write("animated.webp", image, pixels, lossless=True, **frames)
    write("two_pages.tif", image, pixels, **frames)
    for orientation in range(1, 9):
        exif = Image.Exif()
        exif[0x0112] = orientation
        stored = image.transpose(_UNDO[orientation]) if orientation > 1 else image
        write(f"turned_{orientation}.jpg", stored, pixels, LOSSY, exif=exif, quality=95)
        write(f"turned_{orientation}.png", stored, pixels, exif=exif)
        write(f"turned_{orientation}.tif", stored, pixels, exif=exif)
    return seen


# What a camera did to the picture; a viewer does the reverse.
_UNDO = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}


def write_no_pictures(folder: Path) -> dict[str, str]:
    """Write what lies beside pictures and is none.

    Returns:
        name -> why it is none: ``hidden``, ``other`` or ``broken`` (a picture that can't be read).
    """
    folder.mkdir(parents=True, exist_ok=True)
    content = io.BytesIO()
    Image.fromarray(draw_original()).save(content, "JPEG", quality=95)
    whole = content.getvalue()
    files = {
        ".hidden.jpg": (whole, "hidden"),
        "._plain.jpg": (b"\0\5\26\7\0\2\0\0Mac OS X        ", "hidden"),
        ".DS_Store": (b"\0\0\0\1Bud1", "hidden"),
        ".ipynb_checkpoints/a.jpg": (whole, "hidden"),
        "__MACOSX/a.jpg": (whole, "hidden"),
        "labels.txt": (b"0 0.5 0.5 0.2 0.2\n", "other"),
        "LICENSE": (b"Permission is hereby granted", "other"),
        "empty.jpg": (b"", "broken"),
        "page.jpg": (b"<html>404</html>", "broken"),
        "cut.jpg": (whole[: len(whole) // 2], "broken"),
        "script.png": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\nshowpage\n", "broken"),
    }
    for name, (data, _) in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    return {name: why for name, (_, why) in files.items()}
