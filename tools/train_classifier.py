"""Train an image classifier, or evaluate one.

    python tools/train_classifier.py --config-file classification/cifar10_cpu.yaml DATA.PATH DATA
    python tools/train_classifier.py --config-file my.yaml --resume
    python tools/train_classifier.py --config-file my.yaml --eval-only MODEL.WEIGHTS model_best.pth
    python tools/train_classifier.py --config-file classification/imagenet_large.yaml --eval-only \
        MODEL.WEIGHTS nasnet://nasnet_a_large.timm DATA.PATH IMAGENET TEST.CROP_FRACTION 0.911 \
        SOLVER.PRECISION float32
    torchrun --nproc-per-node 8 tools/train_classifier.py --config-file my.yaml

DATA is a folder with torchvision's cifar-10-batches-py in it, an .npz file (x_train, y_train,
x_test, y_test), a folder with train/ and val/, each with one sub-folder of images for each class
(IMAGENET's are named by WordNet id), or a .json file that names shards (see shards.py in
nasnet_det/classification).

OUTPUT_DIR gets checkpoint.pth (the last one), model_best.pth, model_final.pth, results.json,
metrics.json, log.txt, config.yaml, run.json, and curves for tensorboard --logdir OUTPUT_DIR. Killed
at any moment, the same command with --resume goes on, and the weights become those of a training
that was not killed. --check-data reads every image once before the training begins and names those
that can't be read.

torchrun starts one process for each GPU, or some on a CPU; SOLVER.BATCH_SIZE counts the images of
all of them. On several machines OUTPUT_DIR and DATA.PATH have to be the same for all.

A mistake is reported in one sentence and exit status 1 (2 for the arguments), whichever process
meets it; torchrun adds its own report.
"""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any, NoReturn

try:
    from nasnet_det.classification.run import (
        check_output_dir,
        check_same_network,
        choose_device,
        get_identity,
        write_run_info,
    )
except ImportError as import_error:
    sys.exit(f"train_classifier.py: {import_error} (pip install 'nasnet-det[classification]')")

import torch
from yacs.config import CfgNode

from nasnet_det.classification.checkpoint import (
    BEST,
    FINAL,
    LAST,
    get_evaluated_weights,
    load_checkpoint,
)
from nasnet_det.classification.config import build_model, get_classification_config
from nasnet_det.classification.data import ClassificationData, load_data
from nasnet_det.classification.distributed import (
    LostProcessError,
    add_up,
    gather,
    get_rank,
    is_first_to_fail,
    is_main_process,
    join_processes,
    wait_for_all,
)
from nasnet_det.classification.loader import build_test_loader, find_broken
from nasnet_det.classification.loop import NonFiniteLossError, Trainer
from nasnet_det.classification.predictor import Predictor
from nasnet_det.classification.published import build_published, is_published
from nasnet_det.config import ConfigError
from nasnet_det.data.broken_pictures import BrokenPictures
from nasnet_det.evaluation import Evaluation, evaluate
from nasnet_det.network import NASNet
from nasnet_det.runs.files import FileError, write_json
from nasnet_det.runs.lock import lock_folder

logger = logging.getLogger("nasnet_det")


def parse_arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    """``config_file``, ``resume``, ``eval_only``, ``check_data`` and ``opts``."""
    parser = argparse.ArgumentParser(
        prog="train_classifier.py",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--config-file", default="", metavar="FILE", help="a path or a name")
    parser.add_argument("--resume", action="store_true", help="go on from the last checkpoint")
    parser.add_argument("--eval-only", action="store_true", help="evaluate MODEL.WEIGHTS")
    parser.add_argument("--check-data", action="store_true", help="read every image once first")
    parser.add_argument("opts", nargs="*", metavar="KEY VALUE", help="config overrides, last")

    def error(message: str) -> NoReturn:
        complain(message)
        sys.exit(2)

    parser.error = error  # type: ignore[method-assign]
    return parser.parse_args(arguments)


def complain(message: str) -> None:
    """Say what is wrong, once for all processes."""
    if is_first_to_fail():
        print(f"train_classifier.py: {message}", file=sys.stderr)


def set_up_logger(folder: Path) -> None:
    """Log to the terminal and to ``log.txt``; of all processes but the main one only warnings."""
    logger.setLevel(logging.INFO if is_main_process() else logging.WARNING)
    logger.handlers.clear()
    logger.propagate = False
    try:
        handlers: list[logging.Handler] = [
            logging.StreamHandler(),
            logging.FileHandler(folder / "log.txt"),
        ]
    except OSError as error:
        raise FileError(f"OUTPUT_DIR {folder} can't be written to ({error.strerror})") from None
    name = "" if is_main_process() else f"process {get_rank()}: "
    for handler in handlers:
        handler.setFormatter(logging.Formatter(f"%(asctime)s {name}%(message)s", "%m/%d %H:%M:%S"))
        logger.addHandler(handler)


def check_data(cfg: CfgNode, data: ClassificationData) -> None:
    """Read every image once and name the broken ones."""
    for split, images in (("training", data.train), ("test", data.test)):
        broken = [text for part in gather(find_broken(cfg, images)) for text in part]
        if is_main_process():
            for text in broken:
                logger.warning("%s image %s can't be read", split, text)
        number = len(images)
        logger.info("%d of %d %s images can be read", number - len(broken), number, split)


def train(
    cfg: CfgNode,
    data: ClassificationData,
    device: torch.device,
    *,
    resume: bool,
    command: Sequence[str],
) -> None:
    """Train, or go on with a training."""
    trainer = Trainer(cfg, data, device=device)
    if resume and not trainer.resume():
        logger.info("There is no checkpoint in %s yet; beginning anew", cfg.OUTPUT_DIR)
    if is_main_process():
        write_run_info(cfg, command, device)
    result = trainer.train()
    if not is_main_process():
        return
    folder = Path(cfg.OUTPUT_DIR)
    report(folder, result, {"weights": FINAL, "iteration": trainer.iteration})
    print(f"best: top-1 {trainer.best['top1']:.4f} after {trainer.best['iteration']} iterations")
    for name in (FINAL, BEST, "metrics.json", "results.json"):
        if (folder / name).is_file():
            print(folder / name)


def evaluate_only(
    cfg: CfgNode, data: ClassificationData, device: torch.device, *, resume: bool
) -> None:
    """Evaluate ``MODEL.WEIGHTS``, or with ``--resume`` the last checkpoint."""
    folder = Path(cfg.OUTPUT_DIR)
    weights = str(folder / LAST) if resume else cfg.MODEL.WEIGHTS
    if not weights:
        raise ConfigError(
            "--eval-only needs a model: give MODEL.WEIGHTS, or --resume for the last checkpoint of "
            "OUTPUT_DIR"
        )
    predictor = Predictor(cfg, device)
    if is_published(weights):
        model, iteration = build_published(cfg, data.classes), None
    else:
        model, iteration = build_trained(cfg, data.classes, Path(weights))
    result = evaluate(
        predictor.place(model),
        build_test_loader(cfg, data.test),
        classes=data.classes,
        predict=predictor,
        on_broken=BrokenPictures(cfg.DATA.BROKEN_IMAGES).add,
        add_up=add_up,
    )
    if is_main_process():
        report(folder, result, {"weights": weights, "iteration": iteration})
        print(folder / "results.json")


def build_trained(cfg: CfgNode, classes: Sequence[str], path: Path) -> tuple[NASNet, int | None]:
    """The classifier of a checkpoint and its iteration."""
    state = load_checkpoint(path)
    if list(classes) != list(state["classes"]):
        raise ConfigError(
            f"{path} knows {len(state['classes'])} classes ({', '.join(state['classes'][:5])}"
            f"{', ...' if len(state['classes']) > 5 else ''}), but DATA.PATH has "
            f"{len(classes)} ({', '.join(classes[:5])}{', ...' if len(classes) > 5 else ''})"
        )
    for key in ("DATA.PIXEL_MEAN", "DATA.PIXEL_STD"):
        was, now = state["config"].get(key), get_identity(cfg)[key]
        if was != now:
            raise ConfigError(f"{path} was trained with {key} {was}, which is {now} here; give its")
    model = build_model(cfg, len(classes))
    check_same_network(state, model, path)
    try:
        model.load_state_dict(get_evaluated_weights(state))
    except RuntimeError as error:
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        raise ConfigError(
            f"{path} does not fit MODEL.NASNET: {' '.join(lines[:2]):.300}; give the config that "
            "it was trained with"
        ) from None
    return model, state.get("iteration")


def report(folder: Path, result: Evaluation, source: dict[str, Any]) -> None:
    """Print an evaluation and write it to ``results.json``."""
    print(
        f"top-1 {result.top1:.4f}, top-5 {result.top5:.4f}, loss {result.loss:.4f} on "
        f"{result.num_images} test images ({result.num_broken} can't be read)"
    )
    if len(result.per_class) <= 20:
        for name, accuracy in result.per_class.items():
            print(f"  {name:<24} {accuracy:.4f}")
    write_json(folder / "results.json", {**source, **result.to_dict()})


def run(options: argparse.Namespace, command: Sequence[str]) -> None:
    """Check everything that needs no training, then do what was asked for."""
    cfg = get_classification_config(options.config_file, options.opts)
    device = choose_device(cfg.MODEL.DEVICE)
    folder = Path(cfg.OUTPUT_DIR)
    holder = "evaluation" if options.eval_only else "classifier's training"
    with lock_folder(folder, holder) if is_main_process() else nullcontext():
        if is_main_process() and not options.eval_only:
            check_output_dir(folder, resume=options.resume)
        wait_for_all()
        set_up_logger(folder)
        data = load_data(cfg, eval_only=options.eval_only)
        if options.check_data:
            check_data(cfg, data)
        if options.eval_only:
            evaluate_only(cfg, data, device, resume=options.resume)
        else:
            train(cfg, data, device, resume=options.resume, command=command)
        wait_for_all()


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; 0, 1 after a mistake, 2 after one in the arguments, 130 after Ctrl-C."""
    options = parse_arguments(arguments)
    try:
        with join_processes():
            run(
                options,
                ["train_classifier.py", *(sys.argv[1:] if arguments is None else arguments)],
            )
    except (ValueError, NonFiniteLossError, LostProcessError) as error:
        complain(str(error))
        return 1
    except KeyboardInterrupt:
        complain("interrupted; --resume goes on from the last checkpoint")
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
