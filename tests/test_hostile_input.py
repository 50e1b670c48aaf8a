"""Input of any kind: a right result or one sentence; never a hang, never code that is run.

A sentence is an InputError or an OSError. Whatever else is raised fails these tests, and so does
what takes ten seconds. `HYPOTHESIS_PROFILE=thorough` tries 10,000 of each kind.
"""

from __future__ import annotations

import io
import json
import pickle
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from hypothesis import given
from hypothesis import strategies as st
from mutations import TEXTS, VALUES, many_examples, mutate_bytes, mutate_json
from odd_pictures import write_odd_pictures
from safetensors.torch import save
from tiny_coco import make_coco
from tiny_detection import CONFIG, Payload

from nasnet_det.classification.config import get_classification_config
from nasnet_det.classification.config_checks import check_config
from nasnet_det.config import flatten
from nasnet_det.data.coco import CocoFile, read_coco
from nasnet_det.data.pictures import read_picture, read_size
from nasnet_det.doctor.annotations import read_annotations
from nasnet_det.errors import InputError
from nasnet_det.genotype import Genotype
from nasnet_det.published_cells import GENOTYPES, load_genotype
from nasnet_det.search.config import get_search_config
from nasnet_det.weights.file import read_description, read_weights

GENOTYPE = next(iter(GENOTYPES.values())).to_dict()
VOC = """<annotation><folder>VOC2007</folder><filename>a.jpg</filename>
<size><width>100</width><height>80</height><depth>3</depth></size>
<object><name>dog</name><difficult>0</difficult><truncated>1</truncated>
<bndbox><xmin>10</xmin><ymin>5</ymin><xmax>60.5</xmax><ymax>70</ymax></bndbox></object>
<object><name>cat</name><bndbox><xmin>1</xmin><ymin>1</ymin><xmax>9</xmax><ymax>9</ymax></bndbox>
</object></annotation>"""


@contextmanager
def one_sentence() -> Iterator[None]:
    """What a user can mend is one sentence."""
    try:
        yield
    except (InputError, OSError) as error:
        if not 0 < len(str(error)) < 20_000:  # a genotype lists all of its faults
            raise AssertionError("no sentence") from error


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("hostile")


def write(place: Path, name: str, content: Any) -> str:
    path = place / name
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        path.write_text(json.dumps(content), encoding="utf-8", errors="surrogatepass")
    return str(path)


# ---- Genotypes


@many_examples
@given(content=st.one_of(mutate_json(GENOTYPE), mutate_bytes([json.dumps(GENOTYPE).encode()])))
def test_genotype(content: Any, place: Path) -> None:
    path = write(place, "genotype.json", content)
    with one_sentence():
        genotype = load_genotype(path)
        again = Genotype.from_dict(genotype.to_dict())
        assert json.dumps(again.to_dict()) == json.dumps(genotype.to_dict())


# ---- Configs

SEARCH_KEYS = [key for key, _ in flatten(get_search_config())]
CLASSIFIER_KEYS = [key for key, _ in flatten(get_classification_config())]
CONFIGS = [CONFIG.encode(), b"SEARCH: {NUM_TRIALS: 3}\nSEED: 1\n", b"_BASE_: other.yaml\nA: [1, 2]"]


@many_examples
@given(content=st.one_of(mutate_bytes(CONFIGS), mutate_json(yaml.safe_load(CONFIG))))
def test_config_file(content: Any, place: Path) -> None:
    path = write(place, "config.yaml", content)
    for read in (get_search_config, get_classification_config):
        with one_sentence():
            read(path)


@many_examples
@given(content=st.one_of(mutate_bytes(CONFIGS), mutate_json(yaml.safe_load(CONFIG))))
def test_config_file_of_a_detector(content: Any, place: Path) -> None:
    pytest.importorskip("detectron2")
    from nasnet_det.detection import get_config
    from nasnet_det.detection.config_values import check_values

    path = write(place, "detector.yaml", content)
    with one_sentence():
        check_values(get_config(path))


LITERALS = st.one_of(
    TEXTS,
    VALUES.map(repr),
    st.sampled_from(["(" * 300, "[" * 99 + "]" * 99, "1e999", "9**9**9", "-", "()", "\ud800"]),
)


@many_examples
@given(key=st.sampled_from(CLASSIFIER_KEYS), text=LITERALS)
def test_pairs_of_a_classifier(key: str, text: str) -> None:
    with one_sentence():
        check_config(get_classification_config(opts=[key, text]))


@many_examples
@given(key=st.one_of(st.sampled_from(SEARCH_KEYS), TEXTS), text=LITERALS)
def test_pairs_of_a_search(key: str, text: str) -> None:
    with one_sentence():
        get_search_config(opts=[key, text])


@many_examples
@given(data=st.data())
def test_pairs_of_a_detector(data: st.DataObject) -> None:
    pytest.importorskip("detectron2")
    from nasnet_det.detection import get_config
    from nasnet_det.detection.config_values import check_values

    keys = [key for key, _ in flatten(get_config())]
    with one_sentence():
        check_values(get_config(opts=[data.draw(st.sampled_from(keys)), data.draw(LITERALS)]))


# ---- Annotations


def make_full_coco() -> dict[str, Any]:
    """With masks of both kinds, and keypoints."""
    data = make_coco()
    data["annotations"][0]["segmentation"] = [[1, 1, 9, 1, 9, 9.5]]
    data["annotations"][1]["segmentation"] = {"size": [80, 100], "counts": [10, 20, 7970]}
    data["annotations"][2]["keypoints"] = [1, 2, 2, 3, 4, 1]
    return data


def is_sound(coco: CocoFile) -> bool:
    """Whether everything that is trained is finite and refers to something."""
    objects = coco.objects
    assert len(objects.boxes) == len(objects.ids) == len(objects.areas) == len(objects.image)
    assert np.isfinite(objects.boxes).all()
    assert (objects.boxes[:, 2:] >= 0).all()
    assert np.isfinite(objects.areas).all()
    assert set(objects.image.tolist()) <= set(range(len(coco.image_ids)))
    assert set(objects.category.tolist()) <= set(range(len(coco.category_ids)))
    return True


@many_examples
@given(
    content=st.one_of(
        mutate_json(make_full_coco()), mutate_bytes([json.dumps(make_full_coco()).encode()])
    ),
    with_shapes=st.booleans(),
)
def test_coco_json(content: Any, with_shapes: bool, place: Path) -> None:
    path = write(place, "boxes.json", content)
    coco = None
    with one_sentence():
        coco = read_coco(path, with_shapes=with_shapes)
        assert is_sound(coco)
    found, findings = read_annotations(path, with_shapes=with_shapes)
    assert (coco is not None) == (not any(f.level == 2 for f in findings))
    if found is not None:
        assert is_sound(found.coco)
        assert len(found.entries) == len(found.coco.objects)


@pytest.mark.parametrize("content", [5, None, "x", [], [1], True, {}, {"images": 1}])
def test_coco_json_that_is_none(content: Any, place: Path) -> None:
    path = write(place, "none.json", content)
    with pytest.raises(InputError):
        read_coco(path)
    found, findings = read_annotations(path)
    assert found is None
    assert len(findings) == 1


@many_examples
@given(content=mutate_bytes([VOC.encode()]))
def test_voc_xml(content: bytes, place: Path) -> None:
    folder = place / "VOC2007"
    for name in ("Annotations", "JPEGImages"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    (folder / "Annotations" / "a.xml").write_bytes(content)
    with one_sentence():
        assert is_sound(read_coco(folder))


# ---- Pictures


@pytest.fixture(scope="module")
def pictures(place: Path) -> list[bytes]:
    names = write_odd_pictures(place / "pictures")
    chosen = sorted({Path(name).suffix: name for name in names}.values())
    return [(place / "pictures" / name).read_bytes() for name in [*chosen, "turned_6.jpg"]]


@many_examples
@given(data=st.data())
def test_picture(data: st.DataObject, pictures: list[bytes], place: Path) -> None:
    content = data.draw(mutate_bytes(pictures))
    with one_sentence():
        picture = read_picture(io.BytesIO(content))
        assert picture.mode == "RGB"
        assert np.asarray(picture).shape == (picture.height, picture.width, 3)
    path = write(place, "picture", content)
    with one_sentence():
        assert min(read_size(path)) >= 0


# ---- Weights


def make_weight_files(mark: Path) -> dict[str, list[bytes]]:
    """Small valid files of each kind, and pickles that would run code."""
    tensors = {"a.weight": torch.arange(6.0).reshape(2, 3), "b": torch.ones(2, dtype=torch.int64)}
    zipped, old = io.BytesIO(), io.BytesIO()
    torch.save({"model": tensors, "iteration": 3}, zipped)
    torch.save(tensors, old, _use_new_zipfile_serialization=False)
    arrays = {"model": {k: v.numpy() for k, v in tensors.items()}, "__author__": "x"}
    return {
        "safetensors": [save(tensors, metadata={"nasnet_det": json.dumps({"origin": "timm"})})],
        "pth": [zipped.getvalue(), old.getvalue(), pickle.dumps(Payload(mark))],
        "pkl": [pickle.dumps(arrays), pickle.dumps({"model": Payload(mark)})],
    }


@pytest.mark.parametrize("suffix", ["safetensors", "pth", "pkl"])
def test_weights(suffix: str, place: Path) -> None:
    mark = place / "code was run"
    contents = make_weight_files(mark)[suffix]

    @many_examples
    @given(content=mutate_bytes(contents))
    def check(content: bytes) -> None:
        path = write(place, f"weights.{suffix}", content)
        with one_sentence():
            data = read_weights(path)
            assert all(isinstance(v, torch.Tensor | np.ndarray) for v in data["model"].values())
        assert isinstance(read_description(path), dict)
        assert not mark.exists()

    run: Callable[[], None] = check
    run()
