"""Pascal VOC: an XML a picture, in ``Annotations/`` beside ``JPEGImages/``, or beside the pictures.

VOC counts pixels from 1, and a box includes its last ones. So a box from 1 to the picture's width
is as wide as the picture, and its left edge is 0, as in Detectron2's loader of VOC. Some tools
write edges that count from 0 instead; then ``first_pixel`` is 0.

``difficult`` objects become ``iscrowd`` 1, as far as COCO's format can say it: no training sees
them, and no evaluation counts them. ``pose``, ``truncated``, ``occluded`` and ``difficult`` stay as
keys of the annotations.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from nasnet_det.data.error import DataError
from nasnet_det.data.formats.annotated_set import AnnotatedSet, SetBuilder, group_objects
from nasnet_det.data.formats.files import (
    find_split_folders,
    index_pictures,
    list_annotation_files,
)
from nasnet_det.data.formats.losses import Faults
from nasnet_det.data.formats.voc_xml import XmlReader, format_xml, get_text, read_root
from nasnet_det.runs.files import write_content

ANNOTATIONS, PICTURES, LISTS = "Annotations", "JPEGImages", "ImageSets/Main"


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
    roots = {name: read_root(place, name, faults) for name in names}
    faults.raise_any(len(names), "XML files")
    if classes is None:  # of the whole folder, so that all its splits have the same
        found = {get_text(o, "name") for r in roots.values() for o in r.iterfind("object")}
        classes = sorted(found - {""})
    builder = SetBuilder(f"{path}#{split}" if split else path, images, classes)
    pictures = index_pictures(images)
    for name in list(pictures.values()):  # XMLs and pictures may be in folders side by side
        pictures.setdefault(os.path.splitext(os.path.basename(name))[0], name)
    voc = XmlReader(builder, faults, first_pixel, keep_difficult)
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
    groups = group_objects(found.content)
    labels = {record["id"]: record["name"] for record in found.content["categories"]}
    for image, name in zip(found.content["images"], names, strict=True):
        objects = [(labels[r["category_id"]], r) for r in groups.get(image["id"], ())]
        text = format_xml(name, PICTURES, (image["width"], image["height"]), objects)
        path = os.path.join(folder, ANNOTATIONS, os.path.splitext(name)[0] + ".xml")
        write_content(path, text)
    stems = "".join(os.path.splitext(name)[0] + "\n" for name in names)
    write_content(os.path.join(folder, LISTS, f"{split}.txt"), stems)
