"""Pascal VOC: an XML a picture, in ``Annotations/`` beside ``JPEGImages/``, or beside the pictures.

VOC counts pixels from 1, and a box includes its last ones. So a box from 1 to the picture's width
is as wide as the picture, and its left edge is 0, as in Detectron2's loader of VOC. Some tools
write edges that count from 0 instead; then ``first_pixel`` is 0.

``difficult`` objects become ``iscrowd`` 1, as far as COCO's format can say it: no training sees
them, and no evaluation counts them. ``pose``, ``truncated``, ``occluded`` and ``difficult`` stay as
keys of the annotations.
"""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from defusedxml import DefusedXmlException
from defusedxml.ElementTree import parse

from nasnet_det.data.error import DataError
from nasnet_det.data.formats.annotated_set import (
    AnnotatedSet,
    Box,
    Record,
    SetBuilder,
    group_objects,
)
from nasnet_det.data.formats.files import (
    find_split_folders,
    get_base,
    index_pictures,
    list_annotation_files,
)
from nasnet_det.data.formats.losses import Faults
from nasnet_det.runs.files import write_content

ANNOTATIONS, PICTURES, LISTS = "Annotations", "JPEGImages", "ImageSets/Main"
FLAGS = ("truncated", "occluded", "difficult")
_IMAGE_TAGS = ("folder", "filename", "path", "size", "object")
_OBJECT_TAGS = ("name", "bndbox", "pose", *FLAGS)
_SIDES = ("xmin", "ymin", "xmax", "ymax")

Element = ElementTree.Element


def is_voc(path: str) -> bool:
    """Whether a path is a folder with ``Annotations/``, or with XMLs in it.

    Raises:
        DataError: it is a folder of several data sets, as ``VOCdevkit``.
    """
    inner = sorted(map(str, Path(path).glob(f"*/{ANNOTATIONS}"))) if os.path.isdir(path) else []
    if inner and not os.path.isdir(os.path.join(path, ANNOTATIONS)):
        names = ", ".join(os.path.dirname(name) for name in inner)
        raise DataError(f"{path}: it holds data sets and is none; wanted one of {names}")
    return os.path.isdir(path) and bool(list_annotation_files(_find_annotations(path), ".xml"))


def find_voc_images(path: str) -> str:
    """The folder of the pictures."""
    return os.path.join(path, PICTURES) if _find_annotations(path) != path else path


def list_voc_splits(path: str) -> list[str]:
    """The lists in ``ImageSets/Main``; where XMLs lie beside pictures, the folders of these.

    Lists of one class, as ``cat_train.txt``, don't count.
    """
    if os.path.isdir(lists := os.path.join(path, LISTS)):
        names = [name[:-4] for name in list_annotation_files(lists, ".txt") if "_" not in name]
    elif os.path.isdir(os.path.join(path, ANNOTATIONS)):
        names = []
    else:
        names = find_split_folders(list_annotation_files(path, ".xml"))
    return names


def read_voc(
    path: str,
    split: str = "",
    *,
    images: str = "",
    classes: Sequence[str] | None = None,
    first_pixel: int = 1,
    keep_difficult: bool = False,
) -> AnnotatedSet:
    """Read a VOC folder, or one split of it.

    Args:
        path: of the folder.
        split: the name of a list or of a folder in it; all pictures with an XML if empty.
        images: the folder of pictures, where it is not the usual one.
        classes: their names in order; by default all that occur in the folder, sorted.
        first_pixel: 1 as VOC counts, or 0 where numbers are edges from 0.
        keep_difficult: difficult objects are objects as all others.

    Raises:
        DataError: an XML can't be read; all faults are counted, and the first are named.
    """
    place = _find_annotations(path)
    images = images or find_voc_images(path)
    faults = Faults(path)
    names = [name[:-4] for name in list_annotation_files(place, ".xml")]
    roots = {name: _read_root(place, name, faults) for name in names}
    faults.raise_any(len(names), "XML files")
    if classes is None:  # of the whole folder, so that all its splits have the same
        found = {_get_text(o, "name") for r in roots.values() for o in r.iterfind("object")}
        classes = sorted(found - {""})
    builder = SetBuilder(f"{path}#{split}" if split else path, images, classes)
    pictures = index_pictures(images)
    for name in list(pictures.values()):  # XMLs and pictures may be in folders side by side
        pictures.setdefault(os.path.splitext(os.path.basename(name))[0], name)
    voc = _Voc(builder, faults, first_pixel, keep_difficult)
    keys = _list_keys(path, split, names)
    for key in keys:
        if key in roots:
            voc.add(key, roots[key], pictures)
        elif key in pictures:
            builder.add_image(pictures[key], None)
        else:
            faults.texts.append(f"{key} of the list {split} has neither an XML nor a picture")
    faults.raise_any(len(keys), "XML files")
    return builder.build()


def _find_annotations(path: str) -> str:
    place = os.path.join(path, ANNOTATIONS)
    return place if os.path.isdir(place) else path


def _list_keys(path: str, split: str, names: Sequence[str]) -> list[str]:
    """The pictures of a split, by their names without a suffix."""
    file = Path(path, LISTS, f"{split}.txt")
    if split and file.is_file():
        lines = map(str.split, file.read_text(encoding="utf-8-sig", errors="replace").splitlines())
        # A second column says whether a class is in the picture.
        return list(dict.fromkeys(words[0] for words in lines if words and words[1:] != ["-1"]))
    return [name for name in names if not split or name.startswith(f"{split}/")]


def _read_root(place: str, name: str, faults: Faults) -> Element:
    file = os.path.join(place, f"{name}.xml")
    try:
        root: Element = parse(file).getroot()
    except (ElementTree.ParseError, DefusedXmlException, OSError, ValueError, LookupError) as error:
        reason = " ".join(str(error).split())
        if isinstance(error, DefusedXmlException):
            reason = "it declares entities, which are not read"
        faults.texts.append(f"{name}.xml: {reason}")
        return Element("annotation")
    if root.tag != "annotation":
        faults.texts.append(f"{name}.xml: wanted <annotation>, got <{root.tag:.40}>")
    return root


def _get_text(element: Element, path: str) -> str:
    return (element.findtext(path) or "").strip()


class _Voc:
    """Adds what an XML says to a set."""

    def __init__(
        self, builder: SetBuilder, faults: Faults, first_pixel: int, keep_difficult: bool
    ) -> None:
        self.builder, self.losses, self.faults = builder, builder.losses, faults
        self.first_pixel, self.keep_difficult = first_pixel, keep_difficult

    def add(self, key: str, root: Element, pictures: Mapping[str, str]) -> None:
        """One picture with its objects.

        Args:
            key: the name of the XML without its suffix.
            root: ``<annotation>``.
            pictures: names without suffix -> names.
        """
        base = get_base(_get_text(root, "filename"))
        folder = f"{os.path.dirname(key)}/" if "/" in key else ""
        stems = (key, folder + os.path.splitext(base)[0], os.path.basename(key))
        name = next((pictures[stem] for stem in stems if stem in pictures), None)
        sides = [_read_number(_get_text(root, f"size/{side}")) for side in ("width", "height")]
        size = (int(sides[0]), int(sides[1])) if all(0 < side < 2**31 for side in sides) else None
        image = self.builder.add_image(
            name or folder + (base or f"{os.path.basename(key)}.jpg"), size
        )
        for child in root:
            if child.tag not in _IMAGE_TAGS and (len(child) or (child.text or "").strip("0 \n\t")):
                self.losses.add(f"<{child.tag:.40}> of pictures", key)
        for number, child in enumerate(root.iterfind("object"), start=1):
            self._add_object(image, child, f"{key}.xml, object {number}")

    def _add_object(self, image: Record, element: Element, place: str) -> None:
        label = _get_text(element, "name")
        box = self._read_box(element, place)
        if not label:
            self.faults.texts.append(f"{place}: wanted a <name>, got none")
        if not label or box is None:
            return
        more: dict[str, Any] = {}
        for flag in FLAGS:
            if text := _get_text(element, flag):
                more[flag] = 0 if text.lower() in ("0", "false", "no") else 1
        if pose := _get_text(element, "pose"):
            more["pose"] = pose
        if more.get("difficult") and not self.keep_difficult:
            more["iscrowd"] = 1
        for child in element:
            if child.tag not in _OBJECT_TAGS and (len(child) or (child.text or "").strip()):
                self.losses.add(f"<{child.tag:.40}> of objects", place)
        self.builder.add_object(image, label, box, **more)

    def _read_box(self, element: Element, place: str) -> Box | None:
        texts = [_get_text(element, f"bndbox/{side}") for side in _SIDES]
        numbers = [_read_number(text) for text in texts]
        if element.find("bndbox") is None:
            self.losses.add("objects without a <bndbox>, which are left out", place)
            return None
        if not all(map(math.isfinite, numbers)):
            self.faults.texts.append(f"{place}: wanted numbers in <bndbox>, got {texts!s:.80}")
            return None
        left, right = sorted(numbers[::2])
        top, bottom = sorted(numbers[1::2])
        if min(left, top) < self.first_pixel:
            self.losses.add(
                f"boxes that begin before pixel {self.first_pixel} and are cut there"
                + (", as if numbers were edges from 0 (--first-pixel 0)" * self.first_pixel),
                place,
            )
        return max(left - self.first_pixel, 0), max(top - self.first_pixel, 0), right, bottom


def _read_number(text: str) -> float:
    """The number, or NaN."""
    try:
        return float(text)
    except ValueError:
        return math.nan


def name_voc_list(name: str) -> str:
    """A split's name for a list: one with ``_`` is a list of one class."""
    return name.replace("_", "-")


def write_voc(found: AnnotatedSet, names: Sequence[str], folder: str, split: str) -> None:
    """Write the XMLs and the list of a split; pictures are the caller's.

    Args:
        found: every image has its size.
        names: of the pictures in ``JPEGImages``, one an image.
        folder: of the data set.
        split: the name of the list.
    """
    for place in (ANNOTATIONS, LISTS):
        os.makedirs(os.path.join(folder, place), exist_ok=True)
    objects = group_objects(found.content)
    labels = {record["id"]: record["name"] for record in found.content["categories"]}
    for image, name in zip(found.content["images"], names, strict=True):
        root = Element("annotation")
        _add_text(root, "folder", PICTURES)
        _add_text(root, "filename", name)
        size = ElementTree.SubElement(root, "size")
        for side, value in (("width", image["width"]), ("height", image["height"]), ("depth", 3)):
            _add_text(size, side, int(value))
        for record in objects.get(image["id"], ()):
            _write_object(root, record, labels[record["category_id"]])
        ElementTree.indent(root)
        path = os.path.join(folder, ANNOTATIONS, os.path.splitext(name)[0] + ".xml")
        write_content(path, ElementTree.tostring(root, encoding="unicode") + "\n")
    stems = "".join(os.path.splitext(name)[0] + "\n" for name in names)
    write_content(os.path.join(folder, LISTS, f"{split}.txt"), stems)


def _write_object(root: Element, record: Record, label: str) -> None:
    element = ElementTree.SubElement(root, "object")
    _add_text(element, "name", label)
    _add_text(element, "pose", record.get("pose", "Unspecified"))
    _add_text(element, "truncated", int(bool(record.get("truncated"))))
    if "occluded" in record:
        _add_text(element, "occluded", int(bool(record["occluded"])))
    _add_text(element, "difficult", int(bool(record.get("difficult") or record.get("iscrowd"))))
    box = ElementTree.SubElement(element, "bndbox")
    left, top, width, height = record["bbox"]
    first = (round(left) + 1, round(top) + 1)
    for side, value in zip(_SIDES, (*first, round(left + width), round(top + height)), strict=True):
        _add_text(box, side, value)


def _add_text(parent: Element, tag: str, value: Any) -> None:
    # What XML can't hold would make a file that no one reads.
    text = "".join(c for c in str(value) if c.isprintable())
    ElementTree.SubElement(parent, tag).text = text
