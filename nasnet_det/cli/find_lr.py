"""The config is that of a training. The learning rate rises with each of some iterations, and the
loss falls fastest at the rate that is suggested for SOLVER.BASE_LR. Nothing that is trained is
kept. It runs in one process: the rate is for the batch that it names.
"""

from __future__ import annotations

import argparse

from nasnet_det.cli.arguments import add_config_arguments
from nasnet_det.errors import requires

SUMMARY = "Find a learning rate for a detector's training."
EXAMPLES = (
    "--config-file my.yaml --draw learning_rate.png",
    "--config-file my.yaml --lowest 1e-5 --highest 0.1 SOLVER.IMS_PER_BATCH 8",
)
NUM_ROWS = 10


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The config, the range of rates, and where to draw."""
    add_config_arguments(parser)
    parser.add_argument("--lowest", type=float, default=1e-6, metavar="LR", help="(1e-6)")
    parser.add_argument("--highest", type=float, default=1.0, metavar="LR", help="(1)")
    parser.add_argument("--iterations", type=int, default=100, metavar="N", help="(100)")
    parser.add_argument("--draw", metavar="FILE", help="draw the losses: .png, .svg or .pdf")


def run(options: argparse.Namespace) -> None:
    """Try the rates, print some losses and the suggestion, and draw where that is asked for."""
    from nasnet_det.detection import find_learning_rate, get_config

    if options.draw:
        with requires("report"):
            from nasnet_det.drawing.figure_file import check_format, save_figure
            from nasnet_det.drawing.learning_rate import draw_rates
        check_format(options.draw)
    cfg = get_config(options.config_file, options.opts)
    trial = find_learning_rate(
        cfg, lowest=options.lowest, highest=options.highest, num_iterations=options.iterations
    )
    print("learning rate  mean loss")
    for place in range(0, len(trial.rates), max(1, len(trial.rates) // NUM_ROWS)):
        print(f"{trial.rates[place]:13.2e}  {trial.smooth[place]:9.4f}")
    if trial.has_diverged:
        print(f"The training diverges from {trial.rates[-1]:.2g} on.")
    if options.draw:
        figure = draw_rates(trial.rates, trial.losses, trial.smooth, trial.suggestion)
        save_figure(figure, options.draw, title="Loss over learning rate")
        print(options.draw)
    if trial.suggestion is None:
        print("The loss falls at none of these rates: try others, or more iterations.")
    else:
        batch = f"with SOLVER.IMS_PER_BATCH {trial.batch_size}"
        print(f"The loss falls fastest at SOLVER.BASE_LR {trial.suggestion:.2g} {batch}.")
