"""An XML of Pascal VOC: what it says of a picture, and how it is written."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from typing import Any
from xml.etree import ElementTree

from defusedxml import DefusedXmlException
from defusedxml.ElementTree import parse

from nasnet_det.data.formats.annotated_set import Box, Record, SetBuilder
from nasnet_det.data.formats.files import get_base
from nasnet_det.data.formats.losses import Faults

FLAGS = ("truncated", "occluded", "difficult")
_IMAGE_TAGS = ("folder", "filename", "path", "size", "object")
_OBJECT_TAGS = ("name", "bndbox", "pose", *FLAGS)
_SIDES = ("xmin", "ymin", "xmax", "ymax")

Element = ElementTree.Element


def read_root(place: str, name: str, faults: Faults) -> Element:
    """The root of ``place/name.xml``; an empty one, and a fault, where it can't be read."""
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


def get_text(element: Element, path: str) -> str:
    """The text at a path below an element, without the space around it; empty without one."""
    return (element.findtext(path) or "").strip()


class XmlReader:
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
        base = get_base(get_text(root, "filename"))
        folder = f"{os.path.dirname(key)}/" if "/" in key else ""
        stems = (key, folder + os.path.splitext(base)[0], os.path.basename(key))
        name = next((pictures[stem] for stem in stems if stem in pictures), None)
        sides = [_read_number(get_text(root, f"size/{side}")) for side in ("width", "height")]
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
        label = get_text(element, "name")
        box = self._read_box(element, place)
        if not label:
            self.faults.texts.append(f"{place}: wanted a <name>, got none")
        if not label or box is None:
            return
        more: dict[str, Any] = {}
        for flag in FLAGS:
            if text := get_text(element, flag):
                more[flag] = 0 if text.lower() in ("0", "false", "no") else 1
        if pose := get_text(element, "pose"):
            more["pose"] = pose
        if more.get("difficult") and not self.keep_difficult:
            more["iscrowd"] = 1
        for child in element:
            if child.tag not in _OBJECT_TAGS and (len(child) or (child.text or "").strip()):
                self.losses.add(f"<{child.tag:.40}> of objects", place)
        self.builder.add_object(image, label, box, **more)

    def _read_box(self, element: Element, place: str) -> Box | None:
        texts = [get_text(element, f"bndbox/{side}") for side in _SIDES]
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


def format_xml(
    name: str, folder: str, size: tuple[int, int], objects: Sequence[tuple[str, Record]]
) -> str:
    """The text of an XML.

    Args:
        name: of the picture.
        folder: in which it is.
        size: its width and height.
        objects: the class and the record of each.
    """
    root = Element("annotation")
    _add_text(root, "folder", folder)
    _add_text(root, "filename", name)
    element = ElementTree.SubElement(root, "size")
    for side, value in zip(("width", "height", "depth"), (*size, 3), strict=True):
        _add_text(element, side, int(value))
    for label, record in objects:
        _write_object(root, record, label)
    ElementTree.indent(root)
    return ElementTree.tostring(root, encoding="unicode") + "\n"


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
