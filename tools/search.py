"""Search for cells.

    python tools/search.py --config-file search/cifar10_cpu.yaml SEARCH.DATA.PATH cifar10.npz
    python tools/search.py --config-file search/cifar10_cpu.yaml --resume SEARCH.DATA.PATH ...
    python tools/search.py --config-file search/cifar10_cpu.yaml --dry-run 5

OUTPUT_DIR gets study.db (Optuna's storage: every child with its decisions and its reward),
config.yaml, controller.pth (the controller, so that --resume need not teach it again) and
genotype.json, the best architecture so far, which MODEL.NASNET.GENOTYPE takes. With
SEARCH.RETRAIN.NUM_BEST the best are trained for longer at the end, and the best of these is the one
in genotype.json. Killed at any moment, the same command with --resume goes on; the result is that
of a search that was not killed. Curves: tensorboard --logdir OUTPUT_DIR.

--dry-run prints the first architectures of the search, one minibatch at most; nothing is trained or
written. A mistake is reported in one sentence and exit status 1 (2 for the arguments).
"""

from __future__ import annotations

import argparse
import logging
import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack, closing
from pathlib import Path
from typing import NoReturn

try:
    import optuna

    from nasnet_det.search.assemble import (
        build_measure,
        build_recipe,
        build_source,
        open_search,
        write_run_info,
    )
    from nasnet_det.search.event_log import EventLog
except ImportError as import_error:
    sys.exit(f"search.py: {import_error} (pip install 'nasnet-det[search]')")

from optuna.exceptions import StorageInternalError
from yacs.config import CfgNode

from nasnet_det.runs.lock import lock_folder
from nasnet_det.search.best import find_best, find_best_trials, make_genotype
from nasnet_det.search.config import build_space, get_search_config
from nasnet_det.search.data import load_child_data
from nasnet_det.search.journal import silence_optuna
from nasnet_det.search.progress import Progress
from nasnet_det.search.retraining import open_retraining
from nasnet_det.search.samplers import build_sampler
from nasnet_det.search.study import Search
from nasnet_det.search.trials import get_distributions, params_to_choices

LINE_EVERY_S = 30.0  # where the progress line can't be overwritten
CIFAR10_CLASSES = 10  # of a --dry-run without images
SHOWN = 5  # children of a --dry-run without a number


class _ProgressLine:
    """One line that is overwritten on a terminal, and now and then a line elsewhere."""

    def __init__(self) -> None:
        self._is_terminal = sys.stderr.isatty()
        self._last, self._length = 0.0, 0
        self._shown: Progress | None = None

    def show(self, progress: Progress) -> None:
        is_final = progress.finished == progress.total
        if self._is_terminal:
            text = str(progress)
            print(f"\r{text:<{self._length}}", end="", file=sys.stderr, flush=True)
            self._length = len(text)
        elif (
            is_final and progress != self._shown
        ) or time.monotonic() - self._last >= LINE_EVERY_S:
            print(progress, file=sys.stderr, flush=True)
            self._last, self._shown = time.monotonic(), progress

    def end(self) -> None:
        """Leave the line; the next text begins a new one."""
        if self._length:
            print(file=sys.stderr)
        self._length = 0


def parse_arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    """``config_file``, ``resume``, ``dry_run`` (None or a number) and ``opts``."""
    parser = argparse.ArgumentParser(
        prog="search.py",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--config-file", default="", metavar="FILE", help="a path or a name")
    parser.add_argument("--resume", action="store_true", help="go on with the study")
    parser.add_argument(
        "--dry-run", type=int, nargs="?", const=SHOWN, metavar="N", help="only print N proposals"
    )
    parser.add_argument("opts", nargs="*", metavar="KEY VALUE", help="config overrides, last")

    def error(message: str) -> NoReturn:
        print(f"search.py: {message}", file=sys.stderr)
        sys.exit(2)

    parser.error = error  # type: ignore[method-assign]
    options = parser.parse_args(arguments)
    if options.dry_run is not None and options.dry_run < 1:
        error(f"--dry-run: wanted at least 1, got {options.dry_run}")
    return options


def dry_run(cfg: CfgNode, number: int) -> None:
    """Print the first proposals with their sizes."""
    silence_optuna()
    space, recipe = build_space(cfg), build_recipe(cfg)
    source = build_source(cfg)
    num_classes = load_child_data(source).num_classes if source.path else CIFAR10_CLASSES
    measure = build_measure(recipe, space, num_classes, source.image_size)
    study = optuna.create_study(sampler=build_sampler(cfg, space), direction="maximize")
    print(f"{space.count_architectures():,} different architectures; the first of this search:")
    for _ in range(min(number, cfg.SEARCH.SAMPLER.MINIBATCH)):
        trial = study.ask(get_distributions(space))
        choices = params_to_choices(space, trial.params)
        params, macs = measure(choices)
        print(f"\nchild {trial.number}: {params:,} parameters, {macs:,} multiply-adds")
        genotype = space.decode(choices)
        for kind in ("normal", "reduction"):
            blocks = getattr(genotype, kind).blocks
            texts = [
                f"{b.ops[0]}({b.inputs[0]}) {b.combine} {b.ops[1]}({b.inputs[1]})" for b in blocks
            ]
            print(f"  {kind:9} {', '.join(texts)}")


def search(cfg: CfgNode, *, resume: bool, command: Sequence[str]) -> str:
    """Run or resume; returns what to print at the end."""
    folder = Path(cfg.OUTPUT_DIR)
    path = folder / "genotype.json"
    num_best = cfg.SEARCH.RETRAIN.NUM_BEST
    line = _ProgressLine()

    def write_best(search: Search) -> None:
        best = find_best(search.journal)
        if best is not None:
            make_genotype(cfg, search.journal, search.space, best).save(path)

    with ExitStack() as stack:
        stack.enter_context(lock_folder(folder, "search"))
        opened = stack.enter_context(open_search(cfg, resume=resume, on_minibatch=write_best))
        journal = opened.journal
        retraining = None
        if num_best:  # opened before the search, as a mistake in it should not wait for its end
            retraining = stack.enter_context(open_retraining(cfg, on_progress=line.show))
        events = stack.enter_context(closing(EventLog(folder / "tensorboard", journal)))

        def show(progress: Progress) -> None:
            line.show(progress)
            events.write()

        opened.on_progress = show
        write_run_info(cfg, command)
        stack.callback(line.end)
        opened.run()
        line.end()
        opened.executor.close()  # the machine is free for the retraining
        best = find_best(journal)
        if best is None:
            raise ValueError(
                f"no child has a reward; the study {journal.name!r} says why each failed"
            )
        retrained = None
        if retraining:
            pair = retraining.run(find_best_trials(journal, num_best))
            if pair:
                best, retrained = pair[0], retraining.describe(pair[1])
        make_genotype(cfg, journal, opened.space, best, retrained).save(path)
    text = f"best: child {best.number}, accuracy {best.values[0]:.4f} of held-out images"
    if retrained:
        text += f", {retrained['accuracy']:.4f} when retrained"
    return f"{text}\n{path}"


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit status 0 if the search is finished."""
    options = parse_arguments(arguments)
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    try:
        cfg = get_search_config(options.config_file, options.opts)
        if options.dry_run is not None:
            dry_run(cfg, options.dry_run)
        else:
            words = sys.argv[1:] if arguments is None else arguments
            print(search(cfg, resume=options.resume, command=["search.py", *words]))
    except (ValueError, OSError) as error:
        print(f"search.py: {error}", file=sys.stderr)
        return 1
    except StorageInternalError as error:
        reason = str(error.__cause__ or error).strip().splitlines()[0]
        print(
            f"search.py: the storage failed ({reason}); nothing that was written is lost, go on "
            "with --resume",
            file=sys.stderr,
        )
        return 1
    except KeyboardInterrupt:
        print("search.py: interrupted; go on with --resume", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
