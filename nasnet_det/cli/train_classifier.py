"""DATA.PATH is a folder with torchvision's cifar-10-batches-py in it, an .npz file of arrays
(x_train, y_train, x_test, y_test) or of encoded pictures, a folder with train/ and val/, each with
one sub-folder of images for each class (ImageNet's are named by WordNet id), or a .json file that
names shards.

OUTPUT_DIR gets checkpoint.pth (the last one), model_best.pth, model_final.pth, results.json,
metrics.json, log.txt, config.yaml, run.json, and curves for tensorboard --logdir OUTPUT_DIR. Killed
at any moment, the same command with --resume goes on, and the weights become those of a training
that was not killed.

torchrun starts one process for each GPU, or some on a CPU; SOLVER.BATCH_SIZE counts the images of
all of them. On several machines OUTPUT_DIR and DATA.PATH have to be the same for all:
  torchrun --nproc-per-node 8 -m nasnet_det train-classifier --config-file my.yaml
"""

from __future__ import annotations

import argparse
from pathlib import Path

from nasnet_det.cli.arguments import add_config_arguments, add_resume_argument
from nasnet_det.errors import InputError

SUMMARY = "Train an image classifier, or evaluate one."
EXAMPLES = (
    "--config-file classification/cifar10_cpu.yaml DATA.PATH cifar10.npz",
    "--config-file my.yaml --eval-only MODEL.WEIGHTS model_best.pth",
    "--config-file classification/imagenet_mobile.yaml --estimate 5",
    "--config-file classification/imagenet_large.yaml --eval-only "
    "DATA.PATH imagenet MODEL.WEIGHTS nasnet://nasnet_a_large.timm TEST.CROP_FRACTION 0.911",
)
NUM_SHOWN = 20  # classes
NUM_TIMED = 5  # steps of an --estimate without a number


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """``config_file``, ``resume``, ``eval_only``, ``estimate``, ``check_data`` and ``opts``."""
    add_config_arguments(parser)
    add_resume_argument(parser, "the last checkpoint")
    parser.add_argument("--eval-only", action="store_true", help="evaluate MODEL.WEIGHTS")
    parser.add_argument(
        "--estimate",
        nargs="?",
        type=int,
        const=NUM_TIMED,
        metavar="STEPS",
        help="only time some steps with images of noise, and say what the training would take; "
        "without DATA.PATH the data set is ImageNet",
    )
    parser.add_argument(
        "--check-data",
        action="store_true",
        help="read every image once first, and name those that can't be read",
    )


def run(options: argparse.Namespace) -> int:
    """Train or evaluate; of several processes one says what is wrong."""
    from nasnet_det.classification import evaluate, get_classification_config, train
    from nasnet_det.classification.distributed import is_first_to_fail, is_main_process

    if options.estimate is not None:
        return _estimate(options)
    best = None
    try:
        cfg = get_classification_config(options.config_file, options.opts)
        common = {"resume": options.resume, "check_images": options.check_data}
        if options.eval_only:
            result = evaluate(cfg, **common)
        else:
            result, best = train(cfg, command=options.command, **common)
    except (InputError, KeyboardInterrupt) as error:
        if is_first_to_fail():
            raise
        return getattr(error, "status", 1)
    if not is_main_process():
        return 0
    print(
        f"top-1 {result.top1:.4f}, top-5 {result.top5:.4f}, loss {result.loss:.4f} on "
        f"{result.num_images} test images ({result.num_broken} can't be read)"
    )
    if len(result.per_class) <= NUM_SHOWN:
        for name, accuracy in result.per_class.items():
            print(f"  {name:<24} {accuracy:.4f}")
    if best:
        print(f"best: top-1 {best['top1']:.4f} after {best['iteration']} iterations")
    written = ("model_final.pth", "model_best.pth", "metrics.json") if best else ()
    for name in (*written, "results.json"):
        if Path(cfg.OUTPUT_DIR, name).is_file():
            print(Path(cfg.OUTPUT_DIR, name))
    return 0


def _estimate(options: argparse.Namespace) -> int:
    from nasnet_det.classification.config import get_classification_config
    from nasnet_det.classification.estimate import estimate_training

    for name in ("eval_only", "resume", "check_data"):
        if getattr(options, name):
            options.parser.error(f"--estimate: wanted without --{name.replace('_', '-')}")
    if options.estimate < 1:
        options.parser.error(f"--estimate: wanted at least 1, got {options.estimate}")
    cfg = get_classification_config(options.config_file, options.opts)
    print(estimate_training(cfg, num_steps=options.estimate).describe())
    return 0
