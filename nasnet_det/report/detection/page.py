"""The HTML page of a detection report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from nasnet_det.report import html_page as page
from nasnet_det.report.detection.errors import TYPES
from nasnet_det.report.detection.figures import total_multiply_adds
from nasnet_det.report.detection.pictures import CHOICES, Choice
from nasnet_det.report.detection.references import REFERENCES
from nasnet_det.report.detection.run_folder import COST_PARTS
from nasnet_det.report.detection.scores import METRICS, PRECISIONS, RECALLS
from nasnet_det.report.detection.text import (
    DASH,
    METRIC_NAMES,
    UNKNOWN,
    judge,
    write_count,
    write_difference,
    write_score,
    write_value,
)
from nasnet_det.report.html_page import Number

TITLE = "Detection report"


@dataclass
class Drawings:
    """What a page shows beside numbers.

    Attributes:
        figures: name -> SVG; those that can't be drawn are missing.
        photos: name of a run -> choices with their JPEG.
        networks: names of runs -> SVGs of the cells and the plan.
    """

    figures: dict[str, bytes] = field(default_factory=dict)
    photos: dict[str, list[tuple[Choice, bytes]]] = field(default_factory=dict)
    networks: dict[str, tuple[bytes, bytes]] = field(default_factory=dict)


def make_detection_page(report: Mapping[str, Any], drawings: Drawings) -> str:
    """The page of ``report.json``'s content."""
    runs = report["runs"]
    parts = [
        *_list_notes(runs),
        *_list_scores(report),
        *_list_differences(report["comparisons"]),
        *_list_categories(report),
        *_show_curves(drawings),
        *_list_errors(runs, drawings),
        *_list_calibration(runs, drawings),
        *_list_training(runs, drawings),
        *_list_costs(runs, drawings),
        *_show_photos(drawings),
        *_show_networks(drawings),
        *_list_provenance(report),
    ]
    return page.make_page(TITLE, parts)


def _list_notes(runs: Sequence[Mapping[str, Any]]) -> list[str]:
    return [page.warning(f"{run['name']}: {note}") for run in runs for note in run["notes"]]


def _number(score: Mapping[str, Any], text: str) -> Number:
    return Number(text, score["value"])


def _list_scores(report: Mapping[str, Any]) -> list[str]:
    parts = [page.heading("Scores")]
    for metrics in (PRECISIONS, RECALLS):
        rows: list[list[object]] = []
        for run in report["runs"]:
            scores = run["scores"] or dict.fromkeys(metrics, UNKNOWN)
            rows.append(
                [run["name"], *(_number(scores[m], write_score(scores[m])) for m in metrics)]
            )
        parts.append(page.table(["run", *metrics], rows, sortable=True))
    percent = round(100 * report["interval_level"])
    if report["draws"]:
        parts.append(
            page.paragraph(
                f"COCO's scores in percent. In brackets the {percent}% interval of a bootstrap "
                f"over images ({report['draws']:,} draws): what the same detector would get on "
                "other images of the same kind. It does not cover another training; for that, "
                "train with several seeds."
            )
        )
    explained = [[name, METRIC_NAMES[name]] for name in METRICS]
    return [*parts, page.details("What the columns mean", [page.table(["score", ""], explained)])]


def _list_differences(comparisons: Sequence[Mapping[str, Any]]) -> list[str]:
    if not comparisons:
        return []
    parts = [page.heading("Differences on the same images")]
    parts += [
        page.warning(f"{row['run']} and {row['minus']} are not compared: {row['reason']}.")
        for row in comparisons
        if row["reason"]
    ]
    compared = [row for row in comparisons if not row["reason"]]
    if not compared:
        return parts
    for metrics in (PRECISIONS, RECALLS):
        rows = []
        for row in compared:
            scores = [(row["scores"][m], write_difference(row["scores"][m])) for m in metrics]
            verdict = judge(row["scores"][next(iter(metrics))])
            name = f"{row['run']} minus {row['minus']}"
            rows.append([name, *(_number(*score) for score in scores), verdict])
        header = ["runs", *metrics, f"{next(iter(metrics))} is"]
        parts.append(page.table(header, rows, sortable=True))
    return [
        *parts,
        page.paragraph(
            "Both runs are scored on the same draws of the images. Where the interval has zero in "
            "it, the images can't tell the two apart."
        ),
    ]


def _list_categories(report: Mapping[str, Any]) -> list[str]:
    """A table for each data set, with a column for each of its runs."""
    groups: dict[tuple[Any, ...], list[Mapping[str, Any]]] = {}
    for run in report["runs"]:
        if run["categories"]:
            key = (run["data"]["sha256"], tuple(c["name"] for c in run["categories"]))
            groups.setdefault(key, []).append(run)
    differences = {
        row["run"]: row["categories"] for row in report["comparisons"] if not row["reason"]
    }
    parts = [page.heading("Categories")] if groups else []
    for runs in groups.values():
        metrics = ("AP", "AP50", "AP75", "AR100") if len(runs) == 1 else ("AP",)
        compared = [run for run in runs if run["name"] in differences]
        header = ["category", "objects"]
        header += [m if len(runs) == 1 else f"{m}, {run['name']}" for run in runs for m in metrics]
        header += [f"{run['name']} minus the first" for run in compared]
        rows = []
        for number, category in enumerate(runs[0]["categories"]):
            row: list[object] = [category["name"], category["objects"]]
            mine = [run["categories"][number] for run in runs]
            row += [_number(c[m], write_score(c[m])) for c in mine for m in metrics]
            changes = [differences[run["name"]][category["name"]] for run in compared]
            row += [_number(change, write_difference(change)) for change in changes]
            rows.append(row)
        parts.append(page.table(header, rows, sortable=True))
    return parts


def _show_curves(drawings: Drawings) -> list[str]:
    if "precision_recall" not in drawings.figures:
        return []
    return [
        page.heading("Precision and recall"),
        page.picture(
            drawings.figures["precision_recall"],
            "Precision over recall of each run, at IoU 0.50 and 0.75.",
            "The mean of the categories that have objects.",
        ),
    ]


def _list_errors(runs: Sequence[Mapping[str, Any]], drawings: Drawings) -> list[str]:
    scored = [run for run in runs if run["errors"]]
    if not scored:
        return []
    header = ["error", "what it is"]
    header += [f"{what}, {run['name']}" for run in scored for what in ("number", "AP50")]
    rows: list[list[object]] = []
    meanings = {
        **TYPES,
        "false_positives": "all wrong boxes together",
        "false_negatives": "all objects that are not found, together",
    }
    for name, meaning in meanings.items():
        row: list[object] = [name.replace("_", " "), meaning]
        for run in scored:
            found = run["errors"]["types"].get(name) or run["errors"][name]
            loss = found["ap50"]
            row += [found["count"], Number(DASH if loss is None else f"{loss:.2f}", loss)]
        rows.append(row)
    parts = [
        page.heading("Errors"),
        page.picture(
            drawings.figures["errors"],
            "How much AP50 would rise if one type of error were put right, for each run.",
            "How much AP50 would rise if one type of error alone were put right (TIDE, "
            "arXiv 2008.08115). The types don't add up to 100.",
        ),
        page.table(header, rows, sortable=True),
    ]
    for run in scored:
        if confusions := run["errors"]["confusions"][:5]:
            text = ", ".join(f"{true} as {found} ({n:,})" for true, found, n in confusions)
            parts.append(page.paragraph(f"{run['name']} most often takes {text}."))
    return parts


def _list_calibration(runs: Sequence[Mapping[str, Any]], drawings: Drawings) -> list[str]:
    scored = [run for run in runs if run["calibration"]]
    if not scored:
        return []
    rows = []
    for run in scored:
        error, threshold = (run["calibration"][key] for key in ("error", "best_threshold"))
        rows.append(
            [
                run["name"],
                Number(DASH if error is None else f"{error:.3f}", error),
                Number(DASH if threshold is None else f"{threshold:.3f}", threshold),
            ]
        )
    return [
        page.heading("Calibration"),
        page.picture(
            drawings.figures["calibration"],
            "The share of right boxes over their score, and the number of boxes over their score.",
            "At IoU 0.50. On the grey line, 70 of 100 boxes with a score of 0.7 are right.",
        ),
        page.table(
            ["run", "expected calibration error", "score with the best F1"], rows, sortable=True
        ),
    ]


def _list_training(runs: Sequence[Mapping[str, Any]], drawings: Drawings) -> list[str]:
    if "training" not in drawings.figures:
        return []
    rows = [
        [run["name"], *(run["training"][key] for key in ("iterations", "max_iterations", "starts"))]
        for run in runs
    ]
    return [
        page.heading("Training"),
        page.picture(
            drawings.figures["training"],
            "Loss, AP and learning rate of each run over the iterations.",
        ),
        page.table(["run", "iterations done", "planned", "starts"], rows, sortable=True),
    ]


def _list_costs(runs: Sequence[Mapping[str, Any]], drawings: Drawings) -> list[str]:
    known = [run for run in runs if run["cost"]]
    if not known:
        return [
            page.heading("Cost"),
            page.paragraph("Not measured (tools/report.py without --no-cost measures it)."),
        ]
    rows: list[list[object]] = []
    for run in known:
        cost = run["cost"]
        parameters, macs = cost["parameters"], cost["multiply_adds"]
        total, times, peak = total_multiply_adds(cost), cost["ms_per_image"], cost["peak_memory_mb"]
        row: list[object] = [run["name"]]
        row += [Number(write_count(n), n) for n in (parameters["all"], total)]
        row += [Number(write_count(macs[part]), macs[part]) for part in COST_PARTS]
        row += [Number(f"{cost['regions']:.0f}", cost["regions"])]
        row += [Number(f"{times['median']:.0f}", times["median"])]
        row += [Number(DASH if peak is None else f"{peak:,.0f}", peak)]
        rows.append(row)
    header = ["run", "parameters", "multiply-adds of an image"]
    header += [*COST_PARTS[:3], "one region", "regions", "ms an image", "peak memory (MB)"]
    parts_header = ["run", *COST_PARTS]
    parts_rows = [
        [run["name"], *(_counted(run["cost"]["parameters"][part]) for part in COST_PARTS)]
        for run in known
    ]
    parts = [
        page.heading("Cost"),
        page.table(header, rows, sortable=True),
        *(page.paragraph(f"{run['name']}: {_describe_measurement(run['cost'])}") for run in known),
        page.details("Parameters by part", [page.table(parts_header, parts_rows, sortable=True)]),
    ]
    if "cost" in drawings.figures:
        references = [
            [
                r.name,
                Number(f"{r.ap:.1f}", r.ap),
                _counted(r.multiply_adds),
                Number(DASH if r.ms_per_image is None else f"{r.ms_per_image:.0f}", r.ms_per_image),
                r.source + (f"; multiply-adds counted here: {r.counted}" if r.counted else ""),
            ]
            for r in REFERENCES
        ]
        parts += [
            page.picture(
                drawings.figures["cost"],
                "AP over multiply-adds and over milliseconds of an image, with published results.",
                "Filled: these runs on their own data. Hollow and grey: published results on COCO, "
                "other images and devices, for orientation only; the table says where from.",
            ),
            page.details(
                "The published results and their sources",
                [
                    page.table(
                        ["detector", "AP", "multiply-adds", "ms", "source"],
                        references,
                        sortable=True,
                    )
                ],
            ),
        ]
    return parts


def _counted(number: float | None) -> Number:
    return Number(write_count(number), number)


def _describe_measurement(cost: Mapping[str, Any]) -> str:
    height, width = cost["size"]
    images = (
        "an image of noise" if cost.get("is_noise") else f"{cost['images']} images of the data set"
    )
    return (
        f"measured on {cost['device']} with {cost['threads']} "
        f"thread{'s' * (cost['threads'] != 1)}, {cost['precision']}, batch 1, on {images}, "
        f"{width}x{height} pixels on average (median; {cost['ms_per_image']['low']:.0f} to "
        f"{cost['ms_per_image']['high']:.0f} ms); memory of the process, or on a GPU of torch."
    )


def _show_photos(drawings: Drawings) -> list[str]:
    parts = [page.heading("Pictures")] if any(drawings.photos.values()) else []
    for name, photos in drawings.photos.items():
        for reason, meaning in CHOICES.items():
            mine = [pair for pair in photos if pair[0].reason == reason]
            if mine:
                parts.append(page.heading(f"{name}, {reason}: {meaning}", 3))
            parts += [
                page.picture(
                    data,
                    f"{name}, {reason}: true boxes on the left, found boxes on the right.",
                    f"F1 {choice.f1:.2f}: {choice.hits} right, {choice.wrong} wrong "
                    f"({choice.confused} of them of a wrong class), {choice.missed} missed",
                    kind="jpeg",
                    is_photo=True,
                )
                for choice, data in mine
            ]
    return parts


def _show_networks(drawings: Drawings) -> list[str]:
    parts = [page.heading("Network")] if drawings.networks else []
    for names, (cells, plan) in drawings.networks.items():
        parts += [
            page.picture(cells, f"The cells of {names}.", f"{names}: the cells."),
            page.picture(
                plan,
                f"The plan of {names}: its cells from the image on, a row for each stride.",
                f"{names}: all cells and the channels that leave them; dashed: what a cell takes "
                "from the one before the last; thick: the features c2 to c5.",
            ),
        ]
    return parts


def _list_provenance(report: Mapping[str, Any]) -> list[str]:
    runs = report["runs"]
    rows: dict[str, list[object]] = {}
    for run in runs:
        data, made = run["data"] or {}, run["provenance"]
        facts = {
            "folder": run["folder"],
            "data set": data.get("name"),
            "JSON": data.get("json_file"),
            "SHA-256 of the JSON": data.get("sha256"),
            **{key: data.get(key) for key in ("images", "objects", "crowds", "detections")},
            "evaluated after iteration": made["evaluated_iteration"],
            "evaluated weights": made["evaluated_weights"],
            "seed": made["seed"],
            "command": " ".join(made["command"]) if made["command"] else None,
            "started": made["time"],
            "trained on": made["device"],
            "commit": made["git_commit"],
            **{f"version of {key}": value for key, value in sorted(made["versions"].items())},
        }
        for key, value in facts.items():
            # Texts, since these numbers are not to be compared.
            text = page.format_value(value)
            rows.setdefault(key, [None] * len(runs))[runs.index(run)] = text
    parts = [
        page.heading("Provenance"),
        page.table(["", *(run["name"] for run in runs)], [[k, *v] for k, v in rows.items()]),
        page.paragraph(f"Written by nasnet_det {report['version']}."),
    ]
    if differences := report["config_differences"]:
        parts += [
            page.heading("Where the configs differ", 3),
            page.table(
                ["key", *(run["name"] for run in runs)],
                [[key, *map(write_value, values)] for key, values in differences.items()],
            ),
        ]
    return parts
