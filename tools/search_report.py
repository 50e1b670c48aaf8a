"""Report what searches found: figures, tables and one HTML page.

    python tools/search_report.py output/rl_0 output/rl_1 output/random_0 --out output/report
    python tools/search_report.py output/rl_0 --save-results benchmarks/results/search.json
    python tools/search_report.py benchmarks/results/search.json --out output/report

Takes folders that tools/search.py wrote (OUTPUT_DIR), finished or not, and files of results that
--save-results made: a few kilobytes a search, from which the whole report can be made again.
Searches that differ in their seed alone are averaged. DIR gets report.html, which needs no other
file and no network, report.json with all numbers, and each figure as SVG and PNG. A mistake is
reported in one sentence and exit status 1 (2 for the arguments).
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from nasnet_det.runs.study_results import Study, read_studies, save_studies


def parse_arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    """``studies``, ``out`` and ``save_results``."""
    parser = argparse.ArgumentParser(
        prog="search_report.py",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("studies", nargs="+", metavar="STUDY", help="a folder or a file of results")
    parser.add_argument("--out", metavar="DIR", help="write the report there")
    parser.add_argument("--save-results", metavar="FILE", help="write the results as small JSON")

    def error(message: str) -> NoReturn:
        print(f"search_report.py: {message}", file=sys.stderr)
        sys.exit(2)

    parser.error = error  # type: ignore[method-assign]
    options = parser.parse_args(arguments)
    if not (options.out or options.save_results):
        error("wanted --out DIR for a report, or --save-results FILE, or both")
    return options


def collect(path: str) -> list[Study]:
    """The searches of a folder or a file."""
    if not Path(path).is_dir():
        return read_studies(path)
    from nasnet_det.search.results import collect_results  # needs Optuna

    return [collect_results(path)]


def run(options: argparse.Namespace) -> list[str]:
    """Do what is asked; returns the paths of what was written."""
    studies = [study for path in options.studies for study in collect(path)]
    written = []
    if options.save_results:
        save_studies(studies, options.save_results)
        written.append(options.save_results)
    if options.out:
        from nasnet_det.report.search.page import write_search_report

        report = write_search_report(studies, Path(options.out))
        if report["warning"]:
            print(f"search_report.py: {report['warning']}", file=sys.stderr)
        written.append(str(Path(options.out) / "report.html"))
    return written


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit status 0, or 1 after a mistake."""
    options = parse_arguments(arguments)
    try:
        print("\n".join(run(options)))
    except ImportError as error:
        print(
            f"search_report.py: {error} (pip install 'nasnet-det[search,report]')", file=sys.stderr
        )
        return 1
    except (ValueError, OSError) as error:
        print(f"search_report.py: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
