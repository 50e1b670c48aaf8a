"""The sections of a page on what made the detectors: training, cost, pictures, provenance."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from nasnet_det.report import html_page as page
from nasnet_det.report.detection.pictures import CHOICES, Choice
from nasnet_det.report.detection.references import REFERENCES
from nasnet_det.report.detection.text import DASH, write_count, write_value
from nasnet_det.report.html_page import Number
from nasnet_det.runs.detector_files import PARTS as COST_PARTS
from nasnet_det.runs.detector_files import DetectorCost

Runs = Sequence[Mapping[str, Any]]  # of report.json


def list_training(runs: Runs, figures: Mapping[str, bytes]) -> list[str]:
    """Curves, and how far each run came."""
    if "training" not in figures:
        return []
    rows = [
        [run["name"], *(run["training"][key] for key in ("iterations", "max_iterations", "starts"))]
        for run in runs
    ]
    return [
        page.heading("Training"),
        page.picture(
            figures["training"],
            "Loss, AP and learning rate of each run over the iterations.",
        ),
        page.table(["run", "iterations done", "planned", "starts"], rows, sortable=True),
    ]


def list_costs(runs: Runs, figures: Mapping[str, bytes]) -> list[str]:
    """What was measured, and accuracy over cost beside published results."""
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
        total, times, peak = (
            DetectorCost(**cost).total_multiply_adds,
            cost["ms_per_image"],
            cost["peak_memory_mb"],
        )
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
    if "cost" in figures:
        parts += [
            page.picture(
                figures["cost"],
                "AP over multiply-adds and over milliseconds of an image, with published results.",
                "Filled: these runs on their own data. Hollow and grey: published results on COCO, "
                "other images and devices, for orientation only; the table says where from.",
            ),
            page.details("The published results and their sources", [_list_references()]),
        ]
    return parts


def _list_references() -> str:
    header = ["detector", "AP", "multiply-adds", "ms", "source"]
    rows = []
    for reference in REFERENCES:
        ap, time = reference.ap, reference.ms_per_image
        counted = f"; multiply-adds counted here: {reference.counted}" if reference.counted else ""
        rows.append(
            [
                reference.name,
                Number(f"{ap:.1f}", ap),
                _counted(reference.multiply_adds),
                Number(DASH if time is None else f"{time:.0f}", time),
                reference.source + counted,
            ]
        )
    return page.table(header, rows, sortable=True)


def _counted(number: float | None) -> Number:
    return Number(write_count(number), number)


def _describe_measurement(cost: Mapping[str, Any]) -> str:
    height, width = cost["size"]
    images = (
        "an image of noise" if cost.get("is_noise") else f"{cost['images']} images of the data set"
    )
    weights = f"the weights of {cost['weights']}, " if cost.get("weights") else ""
    times = cost["ms_per_image"]
    return (
        f"measured on {cost['device']} with {cost['threads']} "
        f"thread{'s' * (cost['threads'] != 1)}, {weights}{cost['precision']}, batch 1, "
        f"on {images}, {width}x{height} pixels on average (median; {times['low']:.0f} to "
        f"{times['high']:.0f} ms); memory of the process, or on a GPU of torch."
    )


def show_photos(photos: Mapping[str, Sequence[tuple[Choice, bytes]]]) -> list[str]:
    """The images that scores chose, by run and reason."""
    parts = [page.heading("Pictures")] if any(photos.values()) else []
    for name, of_run in photos.items():
        for reason, meaning in CHOICES.items():
            mine = [pair for pair in of_run if pair[0].reason == reason]
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


def show_networks(networks: Mapping[str, tuple[bytes, bytes]]) -> list[str]:
    """The cells and the plan of each different network."""
    parts = [page.heading("Network")] if networks else []
    for names, (cells, plan) in networks.items():
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


def list_provenance(report: Mapping[str, Any]) -> list[str]:
    """What made each run, and where the configs differ."""
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
