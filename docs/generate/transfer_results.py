"""Tables and numbers of trained trunks in detectors, and of their classifiers."""

from __future__ import annotations

from statistics import fmean

from tables import RESULTS, read, write_interval, write_table

from nasnet_det.report.detection.intervals import find_mean_interval
from nasnet_det.weights.packaged import list_packaged, read_packaged_card

TRUNKS = {
    "nasnet_a_small": "NASNet-A small",
    "resnet18": "ResNet-18",
    "nasnet_a": "NASNet-A",
    "found": "found cells",
}
STARTS = {"pre-trained": "Tiny-ImageNet", "scratch": "nothing"}
TRANSFERS = [
    (cells, start) for cells in ("nasnet_a", "found") for start in ("pre-trained", "scratch")
]


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


def write_box(name: str, digits: int = 1) -> str:
    """Detectors of a set from trunks with one training each, and from nothing."""
    report = read(RESULTS / f"transfer_{name}.json")
    points = sorted({int(i) for run in report["runs"] for i in run["points"]})
    rows = []
    for cells, start in ((cells, start) for cells in TRUNKS for start in STARTS):
        runs = [r for r in report["runs"] if (r["cells"], r["start"]) == (cells, start)]
        if runs:
            means = (fmean(run["points"][str(i)]["AP"] for run in runs) for i in points)
            scores = (f"{mean:.{digits}f}" for mean in means)
            rows.append([TRUNKS[cells], STARTS[start], *scores])
    return write_table(("trunk", "it starts from", *(f"after {i:,}" for i in points)), rows)


def write_differences(name: str, pictures: str = "Tiny-ImageNet") -> str:
    """AP at the end, of two trainings with one seed: the mean difference and its interval."""
    starts = {**STARTS, "pre-trained": pictures}
    report = read(RESULTS / f"transfer_{name}.json")
    rows = []
    for row in report["differences"]:
        if row["iterations"] < report["made_of"]["iterations"]:
            continue
        pair = (
            f"{TRUNKS[cells]} from {starts[start]}" for cells, start in (row["one"], row["other"])
        )
        rows.append([*pair, write_interval(*row["interval"])])
    return write_table(("this", "beside this", "AP, 95% interval"), rows)


def write_gains(name: str) -> str:
    """What a trained trunk gains at each evaluation of a set's trainings, with the interval."""
    rows = [
        [f"{row['iterations']:,}", str(row["seeds"]), write_interval(*row["interval"], digits=2)]
        for row in read(RESULTS / f"transfer_{name}.json")["differences"]
        if row["one"][0] == row["other"][0]
    ]
    return write_table(("after", "seeds", "gain of AP, 95% interval"), rows)


def write_reached() -> str:
    """The trunk in the box beside ResNet-18: AP of their detectors, and the trunks' time."""
    sets = {"bccd_box": "blood cells: AP", "voc_small": "20 kinds of objects: AP"}
    rows = []
    for cells in ("nasnet_a_small", "resnet18"):
        scores = []
        for name in sets:
            report = read(RESULTS / f"transfer_{name}.json")
            runs = [
                run["points"][str(report["made_of"]["iterations"])]["AP"]
                for run in report["runs"]
                if (run["cells"], run["start"]) == (cells, "pre-trained")
            ]
            scores.append(f"{fmean(runs):.1f}")
        rows.append([TRUNKS[cells], *scores])
    ratios = [row["ratio"] for row in read(RESULTS / "runtimes_box.json")["rows"].values()]
    times = [f"{min(ratios):.2f} to {max(ratios):.2f}", "1"]
    rows = [[*row, time] for row, time in zip(rows, times, strict=True)]
    return write_table(("trunk", *sets.values(), "its time in inference"), rows)


def write_equal_time() -> str:
    """NASNet and ResNet-18 from nothing, with as many iterations as fit into the same time."""
    names = {"nasnet_a": "NASNet-A, 44 channels", "resnet18": "ResNet-18"}
    metrics = ("AP", "AP50", "AP75")
    report = read(RESULTS / "equal_time.json")
    rows = []
    for backbone, name in names.items():
        runs = [run for run in report["runs"] if run["backbone"] == backbone]
        seeds = ", ".join(f"{run['AP']:.1f}" for run in runs)
        means = [f"{fmean(run[metric] for run in runs):.1f}" for metric in metrics]
        means[0] += f" ({seeds})"
        rows.append([name, f"{report['iterations'][backbone]}", *means])
    differences = (write_interval(*report["differences"][metric]) for metric in metrics)
    rows.append(["difference, 95% interval", "", *differences])
    return write_table(("backbone", "iterations", "AP (each seed)", *metrics[1:]), rows)


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


def write_recipe() -> str:
    """One change at a time of how a detector learns from the trunk in the box."""
    rows = [
        [run["title"], f"{run['iterations']:,}", *(f"{run[m]:.1f}" for m in ("AP", "AP50", "AP75"))]
        for run in read(RESULTS / "detection_recipe.json")["runs"]
    ]
    return write_table(("training", "iterations", "AP", "AP50", "AP75"), rows)


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


def _small_classifier_values() -> dict[str, str]:
    report = read(RESULTS / "small_classifiers.json")
    values = {"small_classifiers.epochs": f"{report['made_of']['epochs']}"}
    for row in report["differences"]:
        mean, *_ = row["interval"]
        values[f"small_classifiers.{row['one']}.{row['other']}"] = f"{mean:.1f}"
    return values


def _packaged_values() -> dict[str, str]:
    card = read_packaged_card("nasnet_a_small")
    return {
        "nasnet_a_small.top1": f"{100 * card['top1']:.1f}",
        "nasnet_a_small.epochs": f"{card['config']['SOLVER.EPOCHS']}",
    }


TABLES = {
    "transfer": write_transfer,
    "reached": write_reached,
    "box_bccd": lambda: write_box("bccd_box"),
    "box_bccd_differences": lambda: write_differences("bccd_box"),
    "box_voc": lambda: write_box("voc_small"),
    "box_voc_differences": lambda: write_differences("voc_small"),
    "box_coco": lambda: write_box("coco_small", digits=2),
    "box_coco_gains": lambda: write_gains("coco_small"),
    "transfer_differences": lambda: write_differences("bccd", "CIFAR-10"),
    "equal_time": write_equal_time,
    "packaged": write_packaged,
    "recipe": write_recipe,
    "small_classifiers": write_small_classifiers,
}


def _equal_time_values() -> dict[str, str]:
    return {"equal_time.ratio": f"{read(RESULTS / 'equal_time.json')['speed']['ratio']:.2f}"}


def _coco_values() -> dict[str, str]:
    """The interval at the end of the first four seeds, before there were more."""
    report = read(RESULTS / "transfer_coco_small.json")
    ends = {
        (run["start"], run["seed"]): run["points"][str(report["made_of"]["iterations"])]["AP"]
        for run in report["runs"]
    }
    gains = [ends["pre-trained", seed] - ends["scratch", seed] for seed in range(1, 5)]
    return {"coco_four_seeds.low": f"{-find_mean_interval(gains)[0]:.2f}"}


def list_values() -> dict[str, str]:
    """The numbers that sentences name."""
    return {
        **_coco_values(),
        **_transfer_values(),
        **_equal_time_values(),
        **_small_classifier_values(),
        **_packaged_values(),
    }
