"""The config is that of a training. Steps with one, two and four pictures of the largest size are
measured on the device of the config, and what fits into nine tenths of its free memory follows.
It counts for each process: with several GPUs each has its share of SOLVER.IMS_PER_BATCH.
"""

from __future__ import annotations

import argparse
import math

from nasnet_det.cli.arguments import add_config_arguments

SUMMARY = "Find how many pictures of a detector's training fit into the memory."
EXAMPLES = ("--config-file my.yaml", "--config-file my.yaml MODEL.DEVICE cuda:1")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The config."""
    add_config_arguments(parser)


def run(options: argparse.Namespace) -> None:
    """Measure, print what was measured, and what it means for the config."""
    from nasnet_det.detection import find_batch_size, get_config
    from nasnet_det.detection.step_cost import advise_less_memory

    cfg = get_config(options.config_file, options.opts)
    trial = find_batch_size(cfg)
    width, height = trial.picture_size
    for number, peak in trial.peaks_mb.items():
        print(f"A step with {number} of {width}x{height} pixels needs {peak:,.0f} MiB.")
    print(f"There are {trial.available_mb:,.0f} MiB for {trial.largest} at once.")
    batch = cfg.SOLVER.IMS_PER_BATCH
    if trial.largest:
        num_parts = math.ceil(batch / trial.largest)
        batch_and_parts = f"SOLVER.IMS_PER_BATCH {batch} with SOLVER.NUM_PARTS {num_parts}"
        print(f"One process can train {batch_and_parts}.")
    else:
        advice = advise_less_memory(cfg, with_parts=False)
        print(f"{advice[0].upper()}{advice[1:]}.")
