"""Tables and numbers of results, from the files that the measurements left.

A table stands between markers in a page. A number in a sentence stands before a comment with its
name, as in ``52.2<!-- bccd.nasnet.AP -->``.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Sequence
from functools import cache
from pathlib import Path
from statistics import fmean
from typing import Any

from nasnet_det.weights.packaged import list_packaged, read_packaged_card

ROOT = Path(__file__).resolve().parents[2]
RESULTS = ROOT / "benchmarks" / "results"
RUNS = ROOT / "docs" / "reference_runs"
DETECTORS = {
    "resnet_18_FPN": "ResNet-18 FPN",
    "resnet_50_FPN": "ResNet-50 FPN",
    "found_cells_FPN": "cells found by our search, FPN",
    "nasnet_a_mobile_FPN": "NASNet-A mobile FPN",
    "nasnet_a_mobile_C4": "NASNet-A mobile C4",
}
TRANSFERS = [
    (cells, start) for cells in ("nasnet_a", "found") for start in ("pre-trained", "scratch")
]
SAMPLERS = ("random", "evolution", "controller")


@cache
def read(path: Path) -> Any:
    """A file of results."""
    return json.loads(path.read_text())


def write_table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


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


def write_coco_small() -> str:
    """The reference runs on COCO's small set: AP, what is missed, and AP50 with right classes."""
    rows = []
    for run in read(RUNS / "coco_small" / "report.json")["runs"]:
        missed = 100 * run["errors"]["types"]["missed"]["count"] / run["data"]["objects"]
        gain = run["errors"]["types"]["classification"]["ap50"]
        name = DETECTORS[run["name"].removesuffix("_1")]
        rows.append([name, f"{run['scores']['AP']['value']:.2f}", f"{missed:.0f}%", f"{gain:.1f}"])
    header = ("detector", "AP", "objects missed", "AP50 gained by right classes")
    return write_table(header, rows)


def write_transfer() -> str:
    """AP after each hundred iterations, with and without a trained trunk."""
    names = {"nasnet_a": "NASNet-A", "pre-trained": "CIFAR-10", "scratch": "from scratch"}
    rows = [
        [
            names.get(cells, cells),
            names[start],
            *(f"{mean_transfer(cells, start, i):.1f}" for i in (100, 200, 300, 400)),
        ]
        for cells, start in TRANSFERS
    ]
    return write_table(("cells", "start", *(f"after {i}" for i in (100, 200, 300, 400))), rows)


def list_transfer(cells: str, start: str, iteration: int) -> list[float]:
    """AP of each seed, in the order of the seeds."""
    runs = read(RESULTS / "transfer_bccd.json")["runs"]
    found = [run for run in runs if (run["cells"], run["start"]) == (cells, start)]
    found.sort(key=lambda run: run["seed"])
    return [run["points"][str(iteration)]["AP"] for run in found]


def mean_transfer(cells: str, start: str, iteration: int) -> float:
    """AP, the mean of the seeds."""
    return fmean(list_transfer(cells, start, iteration))


def write_planted() -> str:
    """Samplers on a planted reward: the mean of the seeds, and how many are ahead of random."""
    names = ("best", "top 5", "top 25", "last tenth")
    rows = []
    for search in read(RESULTS / "search_planted_reward.json")["searches"]:
        seeds = search["seeds"]
        for sampler in SAMPLERS:
            cells = [f"`{search['config']}`", f"{search['num_trials']}", sampler]
            for name in names:
                values, others = (
                    [seed[name] for seed in seeds[who]] for who in (sampler, "random")
                )
                ahead = sum(a > b for a, b in zip(values, others, strict=True))
                share = "" if sampler == "random" else f" ({ahead}/{len(values)})"
                cells.append(f"{round(fmean(values), 3) + 0.0:.3f}{share}")  # + 0.0: not -0.000
            rows.append(cells)
    return write_table(("config", "children", "sampler", *names), rows)


def write_zero_cost() -> str:
    """How well rewards are predicted from measures of untrained children."""
    found = read(RESULTS / "zero_cost.json")
    kinds = ("graph", "measures", "both")
    rows = []
    for num in sorted({row["fitted"] for row in found["rows"]}):
        cells = {r["features"]: r for r in found["rows"] if r["fitted"] == num}
        rows.append([f"{num}", *(f"{cells[k]['mean']:.2f} ± {cells[k]['std']:.2f}" for k in kinds)])
    return write_table(("children fitted", "graph features", "measures", "both"), rows)


def write_ranking() -> str:
    """What orders architectures as long training does, with the intervals."""
    names = {"spearman": "Spearman", "kendall": "Kendall", "top": "Kendall, top quarter"}
    rows = []
    for row in read(RESULTS / "ranking.json")["analysis"]["rows"]:
        bounds = (row[name] for name in names)
        cells = ("{:.2f} ({:.2f} to {:.2f})".format(*one) if one else "" for one in bounds)
        rows.append([row["label"], *cells])
    return write_table(("what orders", *names.values()), rows)


def write_classifier_speed() -> str:
    """Images a second of our networks and of timm's in training."""
    rows = []
    for name, pair in read(RESULTS / "classifier_speed.json")["pairs"].items():
        for who in ("ours", "timm"):
            row = pair[who]
            best = max(row["settings"], key=row["settings"].__getitem__)
            cells = (f"{row['image_size']}", f"{row['parameters'] / 1e6:.1f} M")
            speed = f"{row['images_per_second']:.3g}"
            rows.append([name, who, *cells, speed, best.replace("_", "-")])
    header = ("cells", "network", "image", "parameters", "images a second", "best in")
    return write_table(header, rows)


def write_tiles() -> str:
    """A detector on enlarged pictures, with tiles and without."""
    names = ("AP", "AP50", "AP75", "APs", "APm", "APl")
    rows = read(RESULTS / "tiles.json")["rows"]
    lines = [
        [name, *(f"{row['original'][key]:.1f}" for key in names)] for name, row in rows.items()
    ]
    return write_table(("pictures", *names), lines)


def write_weights_in_the_box() -> str:
    """Detectors of blood cells from trunks with one training each, and from nothing."""
    names = {"nasnet_a_small": "NASNet-A small", "resnet18": "ResNet-18"}
    starts = {"pre-trained": "Tiny-ImageNet", "scratch": "nothing"}
    report = read(RESULTS / "transfer_bccd_box.json")
    points = [str(i) for i in (100, 200, 300, 400)]
    rows = []
    for cells, start in ((cells, start) for cells in names for start in starts):
        runs = [r for r in report["runs"] if (r["cells"], r["start"]) == (cells, start)]
        means = (f"{fmean(run['points'][i]['AP'] for run in runs):.1f}" for i in points)
        rows.append([names[cells], starts[start], *means])
    return write_table(("trunk", "it starts from", *(f"after {i}" for i in points)), rows)


def write_box_differences() -> str:
    """AP at the end, of two trainings with one seed: the mean difference and its interval."""
    names = {"nasnet_a_small": "NASNet-A small", "resnet18": "ResNet-18"}
    starts = {"pre-trained": "from Tiny-ImageNet", "scratch": "from nothing"}
    rows = []
    for row in read(RESULTS / "transfer_bccd_box.json")["differences"]:
        pair = (f"{names[cells]} {starts[start]}" for cells, start in (row["one"], row["other"]))
        mean, low, high = row["interval"]
        rows.append([*pair, f"{mean:+.1f} ({low:+.1f} to {high:+.1f})"])
    return write_table(("this", "beside this", "AP, 95% interval"), rows)


def write_cpu_speed() -> str:
    """Our networks on a CPU beside others: times, ratio, quartiles, floor and memory."""
    rows = []
    for name, row in read(RESULTS / "cpu_speed.json")["rows"].items():
        low, high = row["quartiles"]
        times = (f"{row['ms'][who]:.0f} ({row['format'][who]})" for who in ("ours", "peer"))
        memory = f"{row['peak_ratio']:.2f}" if "peak_ratio" in row else ""
        floor = (
            f"{row['convolutions_ms'] / row['ms']['ours']:.0%}"
            if row.get("convolutions_ms")
            else ""
        )
        rows.append([name, *times, f"{row['ratio']:.2f} ({low:.2f} to {high:.2f})", floor, memory])
    header = (
        "what",
        "ours, ms",
        "peer, ms",
        "ratio (quartiles)",
        "convolutions alone",
        "peak memory, ratio",
    )
    return write_table(header, rows)


def write_detector_speed() -> str:
    """Our detectors on a CPU beside ResNets'."""
    rows = []
    for name, row in read(RESULTS / "detector_speed.json")["rows"].items():
        low, high = row["quartiles"]
        times = (f"{row['ms'][who]:.0f}" for who in ("ours", "peer"))
        rows.append([name, *times, f"{row['ratio']:.2f} ({low:.2f} to {high:.2f})"])
    return write_table(("what", "ours, ms", "peer, ms", "ratio (quartiles)"), rows)


def write_runtimes(file: str = "runtimes.json", ours: str = "NASNet-A mobile") -> str:
    """Trunks in several runtimes, each in its best one."""
    rows = []
    for name, row in read(RESULTS / file)["rows"].items():
        low, high = row["quartiles"]
        best = row["best"]
        times = (f"{row['ms'][who][best[who]]:.0f} ({best[who]})" for who in ("ours", "peer"))
        rows.append([name, *times, f"{row['ratio']:.2f} ({low:.2f} to {high:.2f})"])
    header = ("images", f"{ours}, ms", "ResNet-18, ms", "ratio (quartiles)")
    return write_table(header, rows)


def write_detector_runtimes() -> str:
    """One detector in several runtimes: AP and the time of an image."""
    rows = []
    for row in read(RESULTS / "detector_runtimes.json")["runtimes"]:
        numbers = f"{row['ap']:.1f}", f"{row['ms_per_image']['median']:.0f}"
        rows.append([row["runtime"], row["precision"], *numbers])
    return write_table(("runtime", "precision", "AP", "ms an image"), rows)


def write_cpu_operations() -> str:
    """Single operations on one thread, before and now."""
    rows = read(RESULTS / "cpu_operations.json")["rows"]
    lines = [[name, f"{row['before']:.2f}", f"{row['now']:.2f}"] for name, row in rows.items()]
    return write_table(("what", "before, ms", "now, ms"), lines)


def write_packaged() -> str:
    """The cards of the weights that come with the package."""
    lines = []
    for name in list_packaged():
        card = read_packaged_card(name)
        lines += [
            [f"`nasnet://{name}`", f"{card['bytes'] / 1e6:.1f} MB in half precision"],
            ["network", f"`{card['network']}`, the trunk: {card['num_weights']:,} numbers"],
            ["trained on", card["data"]],
            ["recipe", f"[{card['recipe']}](../configs/{card['recipe']})"],
            [
                "top-1, top-5",
                f"{100 * card['top1']:.1f}%, {100 * card['top5']:.1f}% of "
                f"{card['num_test_images']:,} pictures of {card['num_classes']} classes",
            ],
            ["licence", card["licence"]],
            ["commit", f"`{card['commit'][:12]}`"],
            *(["made by", f"`{command}`"] for command in card["commands"]),
        ]
    return write_table(("weights", "what is known"), lines)


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


def write_training_comforts() -> str:
    """What each comfort changes on blood cells, with the interval over the seeds."""
    names = {
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
    rows = []
    for case, row in read(RESULTS / "training_comforts.json")["cases"].items():
        if case not in names:  # early stopping has longer trainings, and a table of its own
            continue
        cells = [names[case], f"{row['iterations']:.0f}", f"{row['last_ap']:.1f}", ""]
        if "differences" in row:
            mean, low, high = row["differences"]["last_ap"]
            cells[-1] = f"{mean:+.1f} ({low:+.1f} to {high:+.1f})"
        rows.append(cells)
    return write_table(("with", "iterations", "AP", "difference, 95% interval"), rows)


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
    best, last = (
        f"{mean:+.1f} ({low:+.1f} to {high:+.1f})"
        for mean, low, high in (differences[key] for key in ("best_ap", "last_ap"))
    )
    rows.append(["difference, 95% interval", "", best, "", last, ""])
    header = ("seed", "it ended after", "best AP", "without", "last AP", "without")
    return write_table(header, rows)


def write_small_classifiers() -> str:
    """A NASNet, a ResNet of as many multiply-adds, and the NASNet without a teacher."""
    names = {
        "nasnet": "NASNet-A, with the teacher",
        "resnet": "narrow ResNet-18, with the teacher",
        "nasnet_alone": "NASNet-A alone",
    }
    report = read(RESULTS / "small_classifiers.json")
    rows = []
    for case, name in names.items():
        runs = sorted((r for r in report["runs"] if r["case"] == case), key=lambda r: r["seed"])
        network = report["networks"][case.removesuffix("_alone")]
        sizes = (f"{network['macs'] / 1e6:.1f} M", f"{network['parameters'] / 1e6:.1f} M")
        scores = [run["top1"] for run in runs]
        rows.append([name, *sizes, f"{fmean(scores):.1f}", ", ".join(f"{s:.1f}" for s in scores)])
    header = ("network", "multiply-adds", "parameters", "top-1", "each seed")
    return write_table(header, rows)


def write_paper_scale() -> str:
    """What the ImageNet recipes take on two CPU cores."""
    rows = [
        [
            f"`classification/{name}.yaml`",
            f"{row['images_per_second']:.1f}",
            f"{row['epochs']}",
            f"{row['days'] / 365:.1f} years",
            f"{row['checkpoint_mib']:,.0f} MiB",
        ]
        for name, row in read(RESULTS / "paper_scale.json")["rows"].items()
    ]
    return write_table(("recipe", "images a second", "epochs", "all of it", "a checkpoint"), rows)


TABLES = {
    "paper_scale": write_paper_scale,
    "small_classifiers": write_small_classifiers,
    "early_stopping": write_early_stopping,
    "training_comforts": write_training_comforts,
    "packaged": write_packaged,
    "cpu_operations": write_cpu_operations,
    "cpu_speed": write_cpu_speed,
    "detector_speed": write_detector_speed,
    "runtimes": write_runtimes,
    "box_runtimes": lambda: write_runtimes("runtimes_box.json", "NASNet-A small"),
    "detector_runtimes": write_detector_runtimes,
    "bccd": write_bccd,
    "five_detectors": write_five_detectors,
    "coco_small": write_coco_small,
    "transfer": write_transfer,
    "planted": write_planted,
    "zero_cost": write_zero_cost,
    "ranking": write_ranking,
    "classifier_speed": write_classifier_speed,
    "tiles": write_tiles,
    "weights_in_the_box": write_weights_in_the_box,
    "box_differences": write_box_differences,
    "label_errors": write_label_errors,
}


def list_values() -> dict[str, str]:
    """Every number that a sentence of a page may name, as it is written there."""
    return {
        **_search_values(),
        **_ranking_values(),
        **_transfer_values(),
        **_speed_values(),
        **_tiles_values(),
        **_label_error_values(),
        **_comforts_values(),
        **_doctor_values(),
        **_demo_values(),
        **_small_classifier_values(),
        **_transcribed_values(),
    }


def _search_values() -> dict[str, str]:
    values = {}
    for study in read(RESULTS / "search_cifar10.json")["studies"]:
        who = study["config"]["SEARCH.SAMPLER.NAME"]
        reward = study["columns"].index("reward")
        rewards = [child[reward] for child in study["children"] if child[reward] is not None]
        best = sorted(rewards, reverse=True)
        parts = {
            "first": rewards[:50],
            "last": rewards[-50:],
            "best25": best[:25],
            "best": best[:1],
        }
        for name, part in parts.items():
            values[f"search.{who}.{name}"] = f"{100 * fmean(part) + 1e-9:.1f}"  # 24.95 is 25.0
        if who == "controller":
            held_out = study["config"]["SEARCH.DATA.NUM_HELD_OUT"]
            error = math.sqrt(best[0] * (1 - best[0]) / held_out)
            values["search.standard_error"] = f"{100 * error:.1f}"
    return values


def _ranking_values() -> dict[str, str]:
    path = RESULTS / "ranking.json"
    if not path.is_file():  # hours of training make it
        return {}
    report = read(path)
    analysis, made_of = report["analysis"], report["made_of"]
    steps = made_of["epochs"]["long"] * made_of["steps_per_epoch"]
    return {
        "ranking.architectures": f"{analysis['complete']}",
        "ranking.seeds": f"{made_of['seeds']}",
        "ranking.steps": f"{steps:,}",
        "ranking.hours": f"{sum(run['seconds'] for run in report['runs']) / 3600:.1f}",
        **{
            f"ranking.{row['name']}.{name}": f"{row[name][0]:.2f}"
            for row in analysis["rows"]
            for name in ("spearman", "kendall", "top")
            if row[name]
        },
    }


def _transfer_values() -> dict[str, str]:
    values, gaps = {}, []
    for cells in ("nasnet_a", "found"):
        for i in (100, 200, 300, 400):
            trained, scratch = (
                list_transfer(cells, start, i) for start in ("pre-trained", "scratch")
            )
            values[f"transfer.{cells}.{i}"] = f"{fmean(trained) - fmean(scratch):.1f}"
            gaps += [a - b for a, b in zip(trained, scratch, strict=True)]
    behind = [-gap for gap in gaps if gap < 0]
    return {
        **values,
        "transfer.pairs": f"{len(gaps)}",
        "transfer.behind": f"{len(behind)}",
        "transfer.behind_by": f"{max(behind):.1f}",
    }


def _speed_values() -> dict[str, str]:
    bccd = read(RESULTS / "bccd_against_resnet18.json")
    wall = read(RESULTS / "search_wall_time.json")
    pairs = read(RESULTS / "classifier_speed.json")["pairs"]
    return {
        "bccd.minutes_ratio": f"{1 / bccd['minutes_ratio']:.2f}",
        "search.share_of_children": f"{100 * wall['share_of_children']:.1f}",
        "search.two_processes": f"{wall['speed_ups']['two workers']:.2f}",
        "search.two_on_ray": f"{wall['speed_ups']['two workers on Ray']:.2f}",
        "report.ratio": f"{read(RESULTS / 'report_speed.json')['ratio']:.2f}",
        "speed.cifar": f"{pairs['NASNet-A 6 @ 768']['speed_ratio']:.2f}",
        "speed.large": f"{pairs['NASNet-A 6 @ 4032']['speed_ratio']:.2f}",
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


def _label_error_values() -> dict[str, str]:
    report = read(RESULTS / "label_errors.json")
    return {
        "label_errors.seeds": f"{len(report['seeds'])}",
        "label_errors.iterations": f"{report['iterations']}",
        "label_errors.AP50": f"{report['bbox']['AP50']:.1f}",
    }


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


def _doctor_values() -> dict[str, str]:
    report = read(RESULTS / "doctor_speed.json")
    seconds = {f"doctor.{name}": f"{value:.1f}" for name, value in report["seconds"].items()}
    return {"doctor.images": f"{report['images']:,}", **seconds}


def _small_classifier_values() -> dict[str, str]:
    report = read(RESULTS / "small_classifiers.json")
    values = {"small_classifiers.epochs": f"{report['made_of']['epochs']}"}
    for row in report["differences"]:
        mean, *_ = row["interval"]
        values[f"small_classifiers.{row['one']}.{row['other']}"] = f"{mean:.1f}"
    return values


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
