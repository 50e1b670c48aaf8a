"""Datasets for FiftyOne: every key of its format, and the numbers of the COCO files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from simulated_detector import HEIGHT, WIDTH, detect, make_truth, write_run
from tiny_pictures import write_pictures_of

from nasnet_det.cli.main import main
from nasnet_det.data.fiftyone_dataset import Box, Sample, write_fiftyone

TRUTH = make_truth(12, crowds=0.1)
NAMES = {category["id"]: category["name"] for category in TRUTH["categories"]}


def _report(out: Path, *runs: Path) -> int:
    words = ["--no-cost", "--no-photos", "--draws", "100", "--fiftyone"]
    return main(["report", *map(str, runs), "--out", str(out), *words])


def _to_pixels(box: list[float]) -> list[float]:
    return [
        pytest.approx(side * of, abs=1e-6)
        for side, of in zip(box, [WIDTH, HEIGHT] * 2, strict=True)
    ]


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return write_run(tmp_path / "run", TRUTH, detect(TRUTH, spread=0.05))


def test_samples_are_the_data_set_and_the_detections(run: Path, tmp_path: Path) -> None:
    truth = json.loads(json.dumps(TRUTH))
    folder = tmp_path / "out" / "fiftyone"
    assert _report(tmp_path / "out", run) == 0
    assert sorted(path.name for path in folder.iterdir()) == ["metadata.json", "samples.json"]
    content = json.loads((folder / "samples.json").read_text())
    assert content.keys() == {"samples"}
    samples = {Path(sample["filepath"]).name: sample for sample in content["samples"]}
    assert len(samples) == len(truth["images"])
    found = json.loads((run / "inference" / "coco_instances_results.json").read_text())
    for image in truth["images"]:
        sample = samples[image["file_name"]]
        assert sample.keys() == {"filepath", "tags", "metadata", "_media_type", "ground_truth", "predictions"}  # fmt: skip
        assert Path(sample["filepath"]).is_absolute()
        assert (sample["tags"], sample["_media_type"]) == ([], "image")
        assert sample["metadata"] == {"_cls": "ImageMetadata", "width": WIDTH, "height": HEIGHT}
        _check_truth(
            sample["ground_truth"],
            [a for a in truth["annotations"] if a["image_id"] == image["id"]],
        )
        _check_found(sample["predictions"], [r for r in found if r["image_id"] == image["id"]])


def _check_truth(field: dict[str, Any], annotations: list[dict[str, Any]]) -> None:
    assert field.keys() == {"_cls", "detections"}
    assert field["_cls"] == "Detections"
    by_id = {one["coco_id"]: one for one in field["detections"]}
    assert len(by_id) == len(field["detections"]) == len(annotations)
    for annotation in annotations:
        one = by_id[annotation["id"]]
        assert one.keys() == {"_cls", "attributes", "tags", "label", "bounding_box", "iscrowd", "coco_id"}  # fmt: skip
        assert (one["_cls"], one["attributes"], one["tags"]) == ("Detection", {}, [])
        assert one["label"] == NAMES[annotation["category_id"]]
        assert one["iscrowd"] == annotation["iscrowd"]
        assert annotation["bbox"] == _to_pixels(one["bounding_box"])


def _check_found(field: dict[str, Any], results: list[dict[str, Any]]) -> None:
    assert field["_cls"] == "Detections"
    scores = [one["confidence"] for one in field["detections"]]
    assert scores == sorted(scores, reverse=True)
    results = sorted(
        results, key=lambda one: (-one["score"], NAMES[one["category_id"]], one["bbox"])
    )
    detections = sorted(
        field["detections"],
        key=lambda one: (-one["confidence"], one["label"], one["bounding_box"]),
    )
    assert len(detections) == len(results)
    for one, result in zip(detections, results, strict=True):
        assert one.keys() == {"_cls", "attributes", "tags", "label", "bounding_box", "confidence"}
        assert one["label"] == NAMES[result["category_id"]]
        assert one["confidence"] == pytest.approx(result["score"])
        assert result["bbox"] == _to_pixels(one["bounding_box"])


def test_metadata_names_the_classes_and_no_version_of_a_database(run: Path, tmp_path: Path) -> None:
    assert _report(tmp_path / "out", run) == 0
    about = json.loads((tmp_path / "out" / "fiftyone" / "metadata.json").read_text())
    assert about.keys() == {"name", "media_type", "info"}
    assert (about["name"], about["media_type"]) == ("run", "image")
    assert about["info"]["default_classes"] == [NAMES[key] for key in sorted(NAMES)]
    assert about["info"]["json_file"].endswith(".json")


def test_several_runs_have_a_folder_each(run: Path, tmp_path: Path) -> None:
    other = write_run(tmp_path / "other", TRUTH, detect(TRUTH, seed=1, found=0.5))
    assert _report(tmp_path / "out", run, other) == 0
    numbers = {}
    for name in ("run", "other"):
        content = json.loads((tmp_path / "out" / f"fiftyone_{name}" / "samples.json").read_text())
        numbers[name] = sum(len(s["predictions"]["detections"]) for s in content["samples"])
    assert numbers["other"] < numbers["run"]


def test_without_the_option_nothing_is_written(run: Path, tmp_path: Path) -> None:
    words = ["--no-cost", "--no-photos", "--draws", "100"]
    assert main(["report", str(run), "--out", str(tmp_path / "out"), *words]) == 0
    assert not (tmp_path / "out" / "fiftyone").exists()


def test_size_that_the_json_does_not_say_is_the_pictures(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    truth = json.loads(json.dumps(TRUTH))
    for image in truth["images"]:
        del image["width"], image["height"]
    run = write_run(tmp_path / "run", truth, detect(TRUTH))
    assert _report(tmp_path / "out", run) == 1
    assert "can't be read" in capsys.readouterr().err
    assert not (tmp_path / "out" / "fiftyone").exists()
    write_pictures_of(TRUTH, tmp_path / "images", (255, 255, 255))
    assert _report(tmp_path / "out", run) == 0
    content = json.loads((tmp_path / "out" / "fiftyone" / "samples.json").read_text())
    assert {sample["metadata"]["width"] for sample in content["samples"]} == {WIDTH}


@pytest.mark.peers
def test_fiftyone_reads_it(tmp_path: Path) -> None:
    fiftyone = pytest.importorskip("fiftyone")
    pytest.importorskip("fiftyone.utils.data.importers")
    boxes = [Box("cat", [10, 20, 30, 40], 0.5), Box("dog", [0, 0, 100, 50], 0.25)]
    samples = [
        Sample(tmp_path / "a.png", (100, 50), {"predictions": boxes, "ground_truth": []}),
        Sample(tmp_path / "b.png", (100, 50), {"predictions": [], "ground_truth": []}),
    ]
    write_fiftyone(tmp_path / "set", samples, name="a set", classes=["cat", "dog"])
    importers = fiftyone.utils.data.importers
    reader = importers.FiftyOneDatasetImporter(str(tmp_path / "set"))
    # As Dataset.from_dir does, but without its database, a program that no package brings.
    with importers._handle_legacy_formats(reader) as importer:
        first, second = importer
        assert importer.get_dataset_info()["default_classes"] == ["cat", "dog"]
    assert [one.label for one in first.predictions.detections] == ["cat", "dog"]
    assert first.predictions.detections[0].bounding_box == [0.1, 0.4, 0.3, 0.8]
    assert first.predictions.detections[1].confidence == 0.25
    assert second.predictions.detections == []
    assert (first.metadata.width, first.metadata.height) == (100, 50)
    assert first.filepath == str(tmp_path / "a.png")
