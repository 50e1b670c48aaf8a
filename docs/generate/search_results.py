"""Tables and numbers of the search."""

from __future__ import annotations

import math
from statistics import fmean

from tables import RESULTS, RUNS, read, write_interval, write_table

DETECTOR_SEARCH = RUNS / "detector_search" / "report.json"
SAMPLERS = ("random", "evolution", "controller")


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


def write_detectors() -> str:
    """The last rung of the search for detectors on blood cells, the fastest first."""
    rows = []
    for point in read(DETECTOR_SEARCH)["points"]:
        one = point["candidate"]
        cells = f"N {one['num_cells_per_stage']}, F {one['channels']}"
        low, high = point["ap"]["interval"]
        rows.append(
            [
                point["name"],
                f"ResNet-{one['depth']}" if one["depth"] else cells,
                f"{one['min_size']}",
                f"{point['ap']['value']:.1f} ({low:.1f} to {high:.1f})",
                f"{point['latency_ms']:.1f}",
                f"{point['macs'] / 1e6:,.0f} M",
                "yes" if point["is_on_front"] else "",
            ]
        )
    header = ("detector", "backbone", "pixels", "AP", "ms", "multiply-adds", "on the front")
    return write_table(header, rows)


def write_detector_pairs() -> str:
    """Each found detector beside each known one."""
    rows = []
    for pair in read(DETECTOR_SEARCH)["pairs"]:
        difference = pair["difference"]
        interval = write_interval(difference["value"], *difference["interval"])
        rows.append([pair["found"], pair["known"], interval, f"{pair['cost']:.2f}"])
    return write_table(("found", "beside", "AP more", "of its time"), rows)


def write_detector_ranks() -> str:
    """How well the rungs of the search for detectors agree."""
    rows = []
    for one in read(DETECTOR_SEARCH)["ranks"]:
        cells = ("" if one[key] is None else f"{one[key]:.2f}" for key in ("spearman", "kendall"))
        rows.append([f"{one['before']} and {one['after']}", f"{one['number']}", *cells])
    return write_table(("rungs", "candidates in both", "Spearman", "Kendall"), rows)


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


def _detector_values() -> dict[str, str]:
    plan = read(DETECTOR_SEARCH)["plan"]
    return {"detectors.hours": f"{sum(plan['seconds']) / 3600:.1f}"}


TABLES = {
    "planted": write_planted,
    "zero_cost": write_zero_cost,
    "ranking": write_ranking,
    "detector_search": write_detectors,
    "detector_search_pairs": write_detector_pairs,
    "detector_search_ranks": write_detector_ranks,
}


def list_values() -> dict[str, str]:
    """The numbers that sentences name."""
    return {
        **_search_values(),
        **_ranking_values(),
        **_detector_values(),
    }
