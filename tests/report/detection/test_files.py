"""The files of a detection report: what is in them, and what they say of runs that lack something."""

from __future__ import annotations

import json
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from simulated_detector import detect, evaluate_with_pycocotools, make_truth, write_run
from tiny_pictures import write_pictures_of

from nasnet_det.cli.main import main
from nasnet_det.drawing.figure_style import cycle_styles
from nasnet_det.report.detection.report import write_detection_report
from nasnet_det.report.detection.run_folder import read_run
from nasnet_det.report.detection.scores import METRICS
from nasnet_det.report.detection.tables import MINUS

TRUTH = make_truth(30, crowds=0.05)
COST = {
    "parameters": {"trunk": 5, "neck": 4, "proposals": 3, "region head": 2, "all": 14},
    "multiply_adds": {"trunk": 5e9, "neck": 4e9, "proposals": 3e9, "region head": 2e6},
    "size": [240, 320], "regions": 100.0, "peak_memory_mb": 800.0, "device": "abacus",
    "ms_per_image": {"median": 12.0, "low": 10.0, "high": 20.0}, "threads": 1, "images": 10,
    "precision": "float32", "versions": {},
}  # fmt: skip


GOLDEN = Path(__file__).parents[2] / "golden"


def ap_of(results: Any) -> float:
    return 100 * float(evaluate_with_pycocotools(TRUTH, results).stats[0])


def run_tool(*words: object) -> int:
    """nasnet-det report without measurements; its exit status."""
    try:
        return main(["report", *map(str, words), "--no-cost", "--draws", "100"])
    except SystemExit as error:
        return int(error.code or 0)


def write_two(folder: Path) -> list[Path]:
    """Two runs on the same images, with images, training curves, and the cost of one."""
    write_pictures_of(TRUTH, folder / "images", (255, 255, 255))
    good, bad = detect(TRUTH, spread=0.05), detect(TRUTH, seed=1, found=0.5, confused=0.4)
    network = {"MODEL__BACKBONE__NAME": "build_nasnet_fpn_backbone"}
    network |= {"MODEL__NASNET__VARIANT": "nasnet_a_mobile"}
    folders = [
        write_run(folder / "good", TRUTH, good, ap=ap_of(good), **network),
        write_run(folder / "bad", TRUTH, bad, ap=ap_of(bad), SOLVER__BASE_LR=0.5),
    ]
    (folders[0] / "cost.json").write_text(json.dumps(COST))
    return folders


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[Path], Path]:
    """Two runs, and the folder of their report."""
    base = tmp_path_factory.mktemp("two")
    folders = write_two(base)
    assert run_tool(*folders, "--out", base / "out") == 0
    return folders, base / "out"


class Page(HTMLParser):
    """Texts of headings, of rows of tables, and everything that would be fetched."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.headings: list[str] = []
        self.rows: list[list[str]] = []
        self.sources: list[str] = []
        self.tags: list[str] = []
        self._open = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.tags.append(tag)
        self._open = tag if tag in ("h1", "h2", "h3", "td", "th", "button") else self._open
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")
        self.sources += [value for key, value in attrs if key in ("src", "href")]

    def handle_endtag(self, tag: str) -> None:
        if tag == self._open:
            self._open = ""

    def handle_data(self, data: str) -> None:
        if self._open in ("h1", "h2", "h3"):
            self.headings.append(data)
        elif self._open:
            self.rows[-1][-1] += data


def test_two_runs_give_three_files_with_every_part(
    made: tuple[list[Path], Path],
) -> None:
    _, out = made
    page = Page((out / "report.html").read_text())
    assert [h for h in page.headings if "," not in h] == [
        "Detection report", "Scores", "Differences on the same images", "Categories",
        "Precision and recall", "Errors", "Confusion matrix", "Parts of the data", "Calibration",
        "Scores for a wanted precision", "Training", "Cost", "Pictures", "Likely label errors",
        "Network", "Provenance", "Where the configs differ",
    ]  # fmt: skip
    assert page.sources, "there are pictures"
    assert all(source.startswith("data:image/") for source in page.sources), "nothing is fetched"
    assert not {"link", "iframe", "object"} & set(page.tags)
    report = json.loads((out / "report.json").read_text())
    assert [run["notes"] for run in report["runs"]] == [[], []]
    assert report["config_differences"]["SOLVER.BASE_LR"] == [None, 0.5]
    markdown = (out / "report.md").read_text()
    assert "| bad minus good |" in markdown
    assert "abacus" in markdown


def test_every_score_is_that_of_pycocotools_on_the_raw_files(
    made: tuple[list[Path], Path],
) -> None:
    two, out = made
    report = json.loads((out / "report.json").read_text())
    page = Page((out / "report.html").read_text())
    evaluations = []
    for folder, run in zip(two, report["runs"], strict=True):
        results = json.loads((folder / "inference/coco_instances_results.json").read_text())
        evaluation = evaluate_with_pycocotools(TRUTH, results)
        evaluations.append(evaluation)
        for metric, wanted in zip(METRICS, 100 * evaluation.stats, strict=True):
            assert run["scores"][metric]["value"] == pytest.approx(wanted, abs=1e-9)
        shown = []
        for header in ("AP", "AR1"):  # of the two tables
            first = next(i for i, r in enumerate(page.rows) if r[:2] == ["run", header])
            row = next(r for r in page.rows[first:] if r[0] == run["name"])
            shown += [text.split(" ")[0] for text in row[1:]]
        assert shown == [f"{100 * value:.1f}" for value in evaluation.stats]
        precision = evaluation.eval["precision"][..., 0, -1]  # T, R, K
        names = {c["id"]: c["name"] for c in TRUTH["categories"]}
        for k, category in enumerate(run["categories"]):
            of_category = [a for a in TRUTH["annotations"] if a["category_id"] == category["id"]]
            assert category["name"] == names[category["id"]]
            assert category["objects"] == sum(not a["iscrowd"] for a in of_category)
            for metric, levels in (("AP", slice(None)), ("AP50", 0), ("AP75", 5)):
                wanted = 100 * precision[levels, :, k].mean()
                assert category[metric]["value"] == pytest.approx(wanted, abs=1e-9)
            wanted = 100 * evaluation.eval["recall"][:, k, 0, -1].mean()
            assert category["AR100"]["value"] == pytest.approx(wanted, abs=1e-9)
        assert run["data"]["images"] == len(TRUTH["images"])
        assert run["data"]["detections"] == len(results)
        assert run["data"]["objects"] + run["data"]["crowds"] == len(TRUTH["annotations"])
    (row,) = report["comparisons"]
    assert (row["run"], row["minus"]) == ("bad", "good")
    for place, metric in enumerate(METRICS):
        wanted = 100 * (evaluations[1].stats[place] - evaluations[0].stats[place])
        assert row["scores"][metric]["value"] == pytest.approx(wanted, abs=1e-9)
        low, high = row["scores"][metric]["interval"]
        assert low < high
    assert row["scores"]["AP"]["interval"][1] < 0, "so large a difference is no noise"


def test_markdown_and_page_say_what_they_said_before(made: tuple[list[Path], Path]) -> None:
    _, out = made
    markdown = (out / "report.md").read_text()
    # The data set's last digits may depend on the machine.
    without_digest = re.sub("SHA-256 [0-9a-f]{12}", "SHA-256 ...", markdown)
    assert without_digest == (GOLDEN / "detection_report.md").read_text()
    rows = Page((out / "report.html").read_text()).rows
    for line in markdown.splitlines():
        if line.startswith(("| good |", "| bad ")):
            first, *cells = line.strip("| ").split(" | ")
            shown = {cell for row in rows if row[0] == first for cell in row[1:]}
            assert set(cells) <= shown | {"abacus"}


# ---- What runs may lack


def test_trainings_that_differ_in_their_seed_are_put_together(tmp_path: Path) -> None:
    """Their mean, lowest and highest; another config, another end and a run alone stay out."""
    found = [detect(TRUTH, seed=seed, spread=0.1, found=0.8) for seed in range(3)]
    aps = [ap_of(results) for results in found]
    folders = [
        write_run(tmp_path / f"small_5_1{seed}", TRUTH, results, ap=ap, SEED=seed)
        for seed, (results, ap) in enumerate(zip(found, aps, strict=True))
    ]
    other = detect(TRUTH, seed=9, spread=0.2)
    folders.append(
        write_run(tmp_path / "small_lr", TRUTH, other, ap=ap_of(other), SOLVER__BASE_LR=0.5)
    )
    early = write_run(tmp_path / "small_9", TRUTH, other, ap=ap_of(other), SEED=9)
    results = json.loads((early / "results.json").read_text())
    (early / "results.json").write_text(json.dumps(results | {"iteration": 3}))
    assert run_tool(*folders, early, "--out", tmp_path / "out") == 0
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    (group,) = report["seeds"]
    assert (group["name"], group["runs"]) == ("small_5", [f"small_5_1{seed}" for seed in range(3)])
    assert group["seeds"] == [0, 1, 2]
    assert group["scores"]["AP"] == pytest.approx(
        {"mean": np.mean(aps), "low": min(aps), "high": max(aps), "std": np.std(aps, ddof=1)}
    )
    row = f"{np.mean(aps):.1f} ({min(aps):.1f} to {max(aps):.1f})"
    assert f"| small_5 | 3 | {row} |" in (tmp_path / "out" / "report.md").read_text()
    page = Page((tmp_path / "out" / "report.html").read_text())
    assert "Over seeds" in page.headings
    assert ["small_5", "3", row] in [cells[:3] for cells in page.rows]


def test_groups_are_compared_by_the_seeds_that_both_have(tmp_path: Path) -> None:
    """By hand: the mean of the differences, and Student's interval of three values."""
    aps: dict[tuple[str, int], float] = {}
    folders = []
    for name, rate, seeds in (("low", 0.1, (0, 1, 2, 3)), ("high", 0.5, (3, 2, 1, 7))):
        for seed in seeds:
            results = detect(TRUTH, seed=seed, spread=rate, found=0.8)
            aps[name, seed] = ap_of(results)
            keys = {"SEED": seed, "SOLVER__BASE_LR": rate}
            folder = tmp_path / f"{name}_{seed}"
            folders.append(write_run(folder, TRUTH, results, ap=aps[name, seed], **keys))
    assert run_tool(*folders, "--out", tmp_path / "out") == 0
    (row,) = json.loads((tmp_path / "out" / "report.json").read_text())["seed_differences"]
    assert (row["group"], row["minus"], row["seeds"]) == ("high", "low", [1, 2, 3])
    differences = [aps["high", seed] - aps["low", seed] for seed in (1, 2, 3)]
    mean, half = np.mean(differences), 4.303 * np.std(differences, ddof=1) / 3**0.5
    assert row["scores"]["AP"]["value"] == pytest.approx(mean)
    assert row["scores"]["AP"]["interval"] == pytest.approx([mean - half, mean + half], rel=1e-3)
    text = f"{mean:+.1f} ({mean - half:+.1f} to {mean + half:+.1f})".replace("-", MINUS)
    shown = f"| high minus low | 3 | {text} |"
    assert shown in (tmp_path / "out" / "report.md").read_text()
    page = Page((tmp_path / "out" / "report.html").read_text())
    assert ["high minus low", "3", text] in [cells[:3] for cells in page.rows]


def test_36_curves_can_be_told_apart() -> None:
    styles = cycle_styles(36)
    assert len({(s["color"], s["linestyle"]) for s in styles}) == 36
    assert len({(s["color"], s["marker"]) for s in styles}) == 36
    assert len({(s["linestyle"], s["marker"]) for s in styles[:6]}) == 6


def notes_of(out: Path) -> str:
    report = json.loads((out / "report.json").read_text())
    return "\n".join(note for run in report["runs"] for note in run["notes"])


def test_run_that_was_stopped(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    results = detect(TRUTH)
    run = write_run(tmp_path / "run", TRUTH, results, iterations=30, ap=ap_of(results))
    with (run / "metrics.json").open("a") as file:
        file.write('{"iteration": 31, "total_l')  # torn by a kill
    assert run_tool(run, "--out", tmp_path / "out") == 0
    printed = capsys.readouterr()
    names = [str(tmp_path / "out" / f"report.{ending}") for ending in ("html", "md", "json")]
    assert printed.out.split() == names
    assert (
        "nasnet-det report: run: Its training was stopped: 30 of 40 iterations are done"
        in printed.err
    )
    assert "stopped: 30 of 40" in (tmp_path / "out" / "report.html").read_text()


def test_run_without_evaluation(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", TRUTH, None)
    assert run_tool(run, "--out", tmp_path / "out") == 0
    assert "It has no evaluation (no results.json), so it has no scores" in notes_of(
        tmp_path / "out"
    )
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert report["runs"][0]["scores"] is None, "nothing is invented"
    assert "Training" in Page((tmp_path / "out" / "report.html").read_text()).headings


@pytest.mark.parametrize("gone", ["results.json", "inference/coco_instances_results.json"])
def test_evaluation_of_a_killed_run_is_made_again(
    gone: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Detections are written first, ``results.json`` then."""
    run = write_run(tmp_path / "run", TRUTH, detect(TRUTH), ap=50.0)
    whole = (run / gone).read_bytes()
    (run / gone).unlink()

    def evaluate(folder: Path) -> str:
        (folder / gone).write_bytes(whole)
        return ""

    monkeypatch.setattr("nasnet_det.cli.report.evaluate", evaluate)
    assert run_tool(run, "--out", tmp_path / "out", "--evaluate") == 0
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert report["runs"][0]["scores"] is not None


def test_data_set_or_detections_that_are_gone(tmp_path: Path) -> None:
    runs = [
        write_run(tmp_path / name, TRUTH, detect(TRUTH), ap=50.0) for name in ("first", "second")
    ]
    (runs[0] / "inference" / "coco_instances_results.json").unlink()
    content = json.loads((runs[1] / "results.json").read_text())
    content["datasets"]["set"]["json_file"] = "elsewhere/truth.json"
    (runs[1] / "results.json").write_text(json.dumps(content))
    assert run_tool(*runs, "--out", tmp_path / "out") == 0
    notes = notes_of(tmp_path / "out")
    assert (
        "It has no detections (coco_instances_results.json), so no scores here; results.json says "
        "50.00 AP."
    ) in notes
    assert "Its data set elsewhere/truth.json is not here" in notes


def test_empty_predictions(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", TRUTH, [])
    assert run_tool(run, "--out", tmp_path / "out") == 0
    assert "Its file of detections is empty: nothing was found" in notes_of(tmp_path / "out")
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    values = {run["scores"][metric]["value"] for run in report["runs"] for metric in METRICS}
    assert values == {0.0}
    assert report["runs"][0]["errors"]["types"]["missed"]["count"] > 0
    assert report["runs"][0]["calibration"]["error"] is None


def test_evaluation_on_another_data_set(tmp_path: Path) -> None:
    results = detect(TRUTH)
    first = write_run(tmp_path / "a" / "first", TRUTH, results, ap=ap_of(results))
    other = make_truth(12, seed=9)
    second = write_run(tmp_path / "b" / "second", other, detect(other))
    assert run_tool(first, second, "--out", tmp_path / "out") == 0
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    (row,) = report["comparisons"]
    assert row["reason"].startswith("they were evaluated on different images (30 and 12, ")
    assert "scores" not in row
    text = (tmp_path / "out" / "report.html").read_text()
    assert "second and first are not compared: they were evaluated on different images" in text


def test_detections_of_another_data_set(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", TRUTH, detect(make_truth(90)))
    assert run_tool(run, "--out", tmp_path / "out") == 0
    notes = notes_of(tmp_path / "out")
    assert re.search("It has no scores: .*these boxes are of another data set", notes)


def test_data_set_that_changed_since_the_evaluation(tmp_path: Path) -> None:
    results = detect(TRUTH)
    run = write_run(tmp_path / "run", TRUTH, results, ap=ap_of(results))
    content = json.loads((run / "results.json").read_text())
    content["datasets"]["set"]["json_sha256"] = "0" * 64
    (run / "results.json").write_text(json.dumps(content))
    assert run_tool(run, "--out", tmp_path / "out") == 0
    assert "has changed since the evaluation" in notes_of(tmp_path / "out")


def test_scores_of_another_evaluation(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", TRUTH, detect(TRUTH), ap=99.0)
    assert run_tool(run, "--out", tmp_path / "out") == 0
    assert "results.json says 99.00 AP, its detections have" in notes_of(tmp_path / "out")


def test_runs_whose_categories_differ(tmp_path: Path) -> None:
    fewer = make_truth(30, num_categories=2)
    runs = [
        write_run(tmp_path / name / name, truth, detect(truth))
        for name, truth in (("three", TRUTH), ("two", fewer))
    ]
    assert run_tool(*runs, "--out", tmp_path / "out") == 0
    (row,) = json.loads((tmp_path / "out" / "report.json").read_text())["comparisons"]
    assert row["reason"] == (
        "their categories differ (3 and 2; only in the first: class 2; only in the second: none)"
    )


def test_broken_files_are_named_and_the_rest_is_reported(tmp_path: Path) -> None:
    two = write_two(tmp_path)
    (two[0] / "run.json").write_text("[")
    (two[0] / "results.json").write_text('{"datasets": {"set": 3}}')
    (two[0] / "cost.json").write_text(json.dumps({**COST, "ms_per_image": {"median": "x"}}))
    (two[1] / "inference" / "coco_instances_results.json").write_text('[{"image_id": 2,')
    shutil.rmtree(tmp_path / "images")
    assert run_tool(*two, "--out", tmp_path / "out") == 0
    notes = notes_of(tmp_path / "out")
    for sentence in (
        "run.json can't be read",
        "results.json is none of ours: it has no proper 'datasets'.",
        "cost.json is none of ours: it has no proper 'ms_per_image'.",
        "the file ends too early",
    ):
        assert sentence in notes


def test_missing_images_are_said(tmp_path: Path) -> None:
    two = write_two(tmp_path)
    shutil.rmtree(tmp_path / "images")
    assert run_tool(*two, "--out", tmp_path / "out") == 0
    assert "There are no pictures, since the images are not here" in notes_of(tmp_path / "out")


@pytest.mark.parametrize(
    ("words", "status", "sentence"),
    [
        ("{base}/nowhere --out x", 1, "nowhere: there is no such folder or file"),
        ("{base}/empty --out x", 1, "empty holds no run: wanted the OUTPUT_DIR of nasnet-det train or nasnet-det search, with a config.yaml in it"),
        ("{base}/broken --out x", 1, "config.yaml can't be read"),
        ("{base}/run {base}/run --out x", 1, "run: give this run once"),
        ("{base}/run --out {base}/file", 1, "file"),
        ("{base}/run", 2, "wanted --out DIR for a report, or --save-results FILE, or both"),
        ("--out x", 2, "the following arguments are required: RUN"),
    ],
)  # fmt: skip
def test_mistakes_are_one_sentence(
    words: str,
    status: int,
    sentence: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "config.yaml").write_text("SOLVER: [")
    (tmp_path / "file").write_text("")
    write_run(tmp_path / "run", TRUTH, None)
    assert run_tool(*words.format(base=tmp_path).split()) == status
    out, err = capsys.readouterr()
    assert out == ""
    last = err.splitlines()[-1]
    assert last.startswith("nasnet-det report: ")
    assert sentence in last
    assert "Traceback" not in err
    assert not (tmp_path / "x").exists()


def test_report_is_the_same_each_time(made: tuple[list[Path], Path], tmp_path: Path) -> None:
    two, _ = made
    for name in ("first", "second"):
        runs = [read_run(folder) for folder in two]
        write_detection_report(runs, tmp_path / name, num_draws=100, with_photos=False)
    for name in ("report.html", "report.md", "report.json"):
        first, second = ((tmp_path / n / name).read_bytes() for n in ("first", "second"))
        assert first == second
    assert np.isfinite(json.loads(first)["runs"][0]["scores"]["AP"]["value"])
