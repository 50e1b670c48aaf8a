"""Tables and numbers of speed and memory."""

from __future__ import annotations

from tables import RESULTS, read, write_table


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


def _doctor_values() -> dict[str, str]:
    report = read(RESULTS / "doctor_speed.json")
    seconds = {f"doctor.{name}": f"{value:.1f}" for name, value in report["seconds"].items()}
    return {"doctor.images": f"{report['images']:,}", **seconds}


TABLES = {
    "classifier_speed": write_classifier_speed,
    "cpu_speed": write_cpu_speed,
    "detector_speed": write_detector_speed,
    "runtimes": write_runtimes,
    "box_runtimes": lambda: write_runtimes("runtimes_box.json", "NASNet-A small"),
    "detector_runtimes": write_detector_runtimes,
    "cpu_operations": write_cpu_operations,
    "paper_scale": write_paper_scale,
}


def list_values() -> dict[str, str]:
    """The numbers that sentences name."""
    return {
        **_speed_values(),
        **_doctor_values(),
    }
