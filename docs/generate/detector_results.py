"""Tables and numbers of detectors and their trainings."""

from __future__ import annotations

from collections.abc import Mapping
from statistics import fmean

from tables import RESULTS, RUNS, read, write_interval, write_table

DETECTORS = {
    "resnet_18_FPN": "ResNet-18 FPN",
    "resnet_50_FPN": "ResNet-50 FPN",
    "found_cells_FPN": "cells found by our search, FPN",
    "nasnet_a_mobile_FPN": "NASNet-A mobile FPN",
    "nasnet_a_mobile_C4": "NASNet-A mobile C4",
}


def write_bccd() -> str:
    """NASNet-A mobile beside ResNet-18 on blood cells."""
    names = ("AP", "AP50", "AP75", "APs", "APm", "APl", "minutes")
    rows = read(RESULTS / "bccd_against_resnet18.json")["rows"]
    lines = [[network, *(f"{row[name]:.1f}" for name in names)] for network, row in rows.items()]
    return write_table(("network", *names), lines)


def write_five_detectors() -> str:
    """The reference runs on blood cells: AP over two seeds, and the cost."""
    report = read(RUNS / "bccd" / "report.json")
    runs = {run["name"]: run for run in report["runs"]}
    rows = []
    for group in sorted(report["seeds"], key=lambda group: -group["scores"]["AP"]["mean"]):
        seeds = [runs[name]["scores"]["AP"]["value"] for name in group["runs"]]
        cost = next(runs[name]["cost"] for name in group["runs"] if runs[name]["cost"])
        numbers = (f"{ap:.1f}" for ap in (group["scores"]["AP"]["mean"], *seeds))
        parameters = f"{cost['parameters']['all'] / 1e6:.1f} M"
        macs = dict(cost["multiply_adds"])
        macs["region head"] *= cost["regions"]  # it is counted for one
        rows.append(
            [DETECTORS[group["name"]], *numbers, parameters, f"{sum(macs.values()) / 1e9:.2f} G"]
        )
    header = ("detector", "AP", "seed 1", "seed 2", "parameters", "multiply-adds")
    return write_table(header, rows)


def write_tiles() -> str:
    """A detector on enlarged pictures, with tiles and without."""
    names = ("AP", "AP50", "AP75", "APs", "APm", "APl")
    rows = read(RESULTS / "tiles.json")["rows"]
    lines = [
        [name, *(f"{row['original'][key]:.1f}" for key in names)] for name, row in rows.items()
    ]
    return write_table(("pictures", *names), lines)


def write_label_errors() -> str:
    """Planted label errors that a report's first suggestions show."""
    report = read(RESULTS / "label_errors.json")
    names = {
        "all": "all 60",
        "moved": "20 moved",
        "renamed": "20 renamed",
        "dropped": "20 dropped",
    }
    rows = []
    for key, name in names.items():
        counts = [row[key] for row in report["seeds"]]
        rows.append([name, f"{fmean(counts):.1f}", str(min(counts)), str(max(counts))])
    return write_table(("planted", "shown, on average", "least", "most"), rows)


COMFORTS = {
    "plain": "without",
    "ema": "`SOLVER.EMA.DECAY 0.999`",
    "parts": "`SOLVER.NUM_PARTS 4`",
    "rate": "the rate that `find-lr` suggests",
    "colour": "`RandomBrightness`, `RandomContrast`: 0.8 to 1.2",
    "mosaic": "`INPUT.MOSAIC.PROB 0.5`",
    "copy_paste": "`INPUT.COPY_PASTE.PROB 0.5`",
    "jitter": "large-scale jitter, 0.5 to 1.5",
    "albumentations": "the [pipeline](augmentation.md#albumentations) of Albumentations",
    "balanced": "`RepeatFactorTrainingSampler`, `REPEAT_THRESHOLD 1.0`",
    "backbone": "`SOLVER.BACKBONE_LR_FACTOR 0.3`",
    "validation": "`TEST.VALIDATION_LOSS True`",
}
CHANGES = {
    "plain": "none",
    "ema": "a moving average of the weights",
    "rate_half": "half the learning rate",
    "rate_double": "twice the learning rate",
    "backbone": "0.3 of the rate in the backbone",
    "stem": "64 channels in the stem, not 32",
    "deep": "four cells a stage with 24 channels, not one with 44",
    "giou": "boxes learn by GIoU",
    "agnostic": "one box regressor for all classes",
    "group_norm": "group normalization in the cells",
    "drop_path": "drop path, 0.2 at the end",
}


def write_cases(names: Mapping[str, str], title: str) -> str:
    """What each of these cases changes on blood cells, with the interval over the seeds."""
    cases = read(RESULTS / "training_comforts.json")["cases"]
    rows = []
    for case, name in names.items():
        if case not in cases:
            continue
        row = cases[case]
        cells = [name, f"{row['seeds']}", f"{row['last_ap']:.1f}", ""]
        if "differences" in row:
            cells[-1] = write_interval(*row["differences"]["last_ap"])
        rows.append(cells)
    return write_table((title, "seeds", "AP", "difference, 95% interval"), rows)


def write_early_stopping() -> str:
    """Where early stopping ends a training, beside the same training to its end."""
    report = read(RESULTS / "early_stopping.json")
    found = {(run["case"], run["seed"]): run for run in report["runs"]}
    rows = []
    for seed in sorted({seed for _, seed in found}):
        early, plain = found["early", seed], found["plain", seed]
        rows.append(
            [
                str(seed),
                f"{early['iterations']}",
                *(f"{run[key]:.1f}" for key in ("best_ap", "last_ap") for run in (early, plain)),
            ]
        )
    differences = report["cases"]["early"]["differences"]
    best, last = (write_interval(*differences[key]) for key in ("best_ap", "last_ap"))
    rows.append(["difference, 95% interval", "", best, "", last, ""])
    header = ("seed", "it ended after", "best AP", "without", "last AP", "without")
    return write_table(header, rows)


def _tiles_values() -> dict[str, str]:
    report = read(RESULTS / "tiles.json")
    rows = zip(("whole", "tiled"), report["rows"].values(), strict=True)
    return {
        "tiles.pictures": f"{report['pictures']}",
        "tiles.iterations": f"{report['iterations']}",
        **{
            f"tiles.{name}.{key}": f"{v:.1f}"
            for name, row in rows
            for key, v in row["original"].items()
        },
    }


def _label_error_values() -> dict[str, str]:
    report = read(RESULTS / "label_errors.json")
    return {
        "label_errors.seeds": f"{len(report['seeds'])}",
        "label_errors.iterations": f"{report['iterations']}",
        "label_errors.AP50": f"{report['bbox']['AP50']:.1f}",
    }


def _comforts_values() -> dict[str, str]:
    report, early = (
        read(RESULTS / f"{name}.json") for name in ("training_comforts", "early_stopping")
    )
    return {
        "training_comforts.iterations": f"{report['made_of']['iterations']}",
        "early_stopping.without": f"{early['made_of']['iterations']:,}",
        "early_stopping.iterations": f"{early['cases']['early']['iterations']:.0f}",
    }


def _demo_values() -> dict[str, str]:
    report = read(RESULTS / "demo.json")
    return {
        "demo.ap": f"{report['scores']['AP']:.1f}",
        "demo.ap50": f"{report['scores']['AP50']:.1f}",
        "demo.minutes": f"{report['minutes']:.1f}",
        **{f"demo.{name}": f"{seconds:.0f}" for name, seconds in report["seconds"].items()},
    }


def _transcribed_values() -> dict[str, str]:
    values = {}
    for name, entry in read(RESULTS / "transcribed.json")["measurements"].items():
        for key, value in entry["values"].items():
            for i, number in enumerate(value if isinstance(value, list) else [value]):
                index = f".{i}" if isinstance(value, list) else ""
                values[f"{name}.{key}{index}"] = (
                    f"{number:,}" if isinstance(number, int) else f"{number}"
                )
    return values


TABLES = {
    "bccd": write_bccd,
    "five_detectors": write_five_detectors,
    "tiles": write_tiles,
    "label_errors": write_label_errors,
    "training_comforts": lambda: write_cases(COMFORTS, "with"),
    "from_nothing": lambda: write_cases(CHANGES, "change"),
    "early_stopping": write_early_stopping,
}


def list_values() -> dict[str, str]:
    """The numbers that sentences name."""
    return {
        **_tiles_values(),
        **_label_error_values(),
        **_comforts_values(),
        **_demo_values(),
        **_transcribed_values(),
    }
