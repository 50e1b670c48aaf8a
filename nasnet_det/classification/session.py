"""A classifier's training or evaluation from its config to its results, with every check."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any, NamedTuple

import torch
from yacs.config import CfgNode

from nasnet_det.classification.checkpoint import (
    FINAL,
    LAST,
    get_evaluated_weights,
    load_checkpoint,
)
from nasnet_det.classification.data import ClassificationData, load_data
from nasnet_det.classification.distributed import (
    add_up,
    gather,
    get_rank,
    is_main_process,
    join_processes,
    wait_for_all,
)
from nasnet_det.classification.library_classifier import LibraryClassifier
from nasnet_det.classification.loader import build_test_loader, find_broken
from nasnet_det.classification.loop import Trainer
from nasnet_det.classification.models import build_model
from nasnet_det.classification.predictor import Predictor
from nasnet_det.classification.published import build_published, is_published
from nasnet_det.classification.run import (
    check_output_dir,
    check_same_network,
    choose_device,
    get_identity,
    write_run_info,
)
from nasnet_det.config import ConfigError
from nasnet_det.data.broken_pictures import BrokenPictures
from nasnet_det.evaluation import Evaluation
from nasnet_det.evaluation import evaluate as evaluate_network
from nasnet_det.network import NASNet
from nasnet_det.runs.files import FileError, write_json
from nasnet_det.runs.lock import lock_folder
from nasnet_det.runs.record import RESULTS
from nasnet_det.weights.backbone_file import read_card, read_library_card
from nasnet_det.weights.packaged import resolve_packaged

logger = logging.getLogger("nasnet_det")


class Trained(NamedTuple):
    """What came of a training.

    Attributes:
        last: the evaluation at its end.
        best: ``top1`` (0 to 1) and ``iteration`` of the best one; {} in all processes but the
            first.
    """

    last: Evaluation
    best: Mapping[str, float]


def train(
    cfg: CfgNode,
    *,
    resume: bool = False,
    check_images: bool = False,
    command: Sequence[str] = (),
    teacher: Callable[[torch.Tensor], torch.Tensor] | None = None,
) -> Trained:
    """Train, or go on with a training, in one process or in all that torchrun started.

    ``OUTPUT_DIR`` gets checkpoint.pth, model_best.pth, model_final.pth, results.json,
    metrics.json, log.txt, config.yaml, run.json and TensorBoard's events. Killed at any moment,
    ``resume`` goes on, and the weights become those of a training that was not killed.

    Args:
        cfg: see :func:`~nasnet_det.classification.config.get_classification_config`.
        resume: go on from the last checkpoint if there is one.
        check_images: read every image once first, and log those that can't be read.
        command: what ``run.json`` says; empty for that of this process.
        teacher: whose outputs are learned in place of those of ``DISTILL.TEACHER``: images
            (B, 3, H, W) in RGB and the scale of bytes, float32 -> logits (B, C).

    Raises:
        InputError: the config, the data or the folder can't be used, the training diverged, or
            another process of it has ended.
        StoppedBySignal: Ctrl-C or SIGTERM came, and what is done is saved.
    """
    with _open_run(cfg, eval_only=False, resume=resume, check_images=check_images) as opened:
        data, device = opened
        trainer = Trainer(cfg, data, device=device, teacher=teacher)
        if resume and not trainer.resume():
            logger.info("There is no checkpoint in %s yet; beginning anew", cfg.OUTPUT_DIR)
        if is_main_process():
            write_run_info(cfg, command or sys.argv, device)
        result = trainer.train()
        _write_results(cfg, result, {"weights": FINAL, "iteration": trainer.iteration})
        return Trained(result, trainer.best)


def evaluate(cfg: CfgNode, *, resume: bool = False, check_images: bool = False) -> Evaluation:
    """Evaluate ``MODEL.WEIGHTS`` on the test images, and write ``results.json``.

    Args:
        cfg: see :func:`~nasnet_det.classification.config.get_classification_config`.
        resume: the last checkpoint of ``OUTPUT_DIR`` instead of ``MODEL.WEIGHTS``.
        check_images: read every image once first, and log those that can't be read.

    Raises:
        InputError: no weights are named, or the config, the weights, the data or the folder can't
            be used.
    """
    with _open_run(cfg, eval_only=True, resume=resume, check_images=check_images) as opened:
        data, device = opened
        weights = resolve_packaged(cfg.MODEL.WEIGHTS)
        if resume:
            weights = str(Path(cfg.OUTPUT_DIR) / LAST)
        if not weights:
            raise ConfigError(
                "--eval-only needs a model: give MODEL.WEIGHTS, or --resume for the last "
                "checkpoint of OUTPUT_DIR",
                where="MODEL.WEIGHTS",
            )
        predictor = Predictor(cfg, device)
        model: NASNet | LibraryClassifier
        if is_published(weights):
            model, iteration = build_published(cfg, data.classes), None
        else:
            model, iteration = _build_trained(cfg, data.classes, Path(weights))
        result = evaluate_network(
            predictor.place(model),
            build_test_loader(cfg, data.test),
            classes=data.classes,
            predict=predictor,
            on_broken=BrokenPictures(cfg.DATA.BROKEN_IMAGES).add,
            add_up=add_up,
        )
        _write_results(cfg, result, {"weights": weights, "iteration": iteration})
    return result


@contextmanager
def _open_run(
    cfg: CfgNode, *, eval_only: bool, resume: bool, check_images: bool
) -> Iterator[tuple[ClassificationData, torch.device]]:
    """Check everything that needs no training, and keep other runs out of the folder."""
    with join_processes():
        device = choose_device(cfg.MODEL.DEVICE)
        folder = Path(cfg.OUTPUT_DIR)
        holder = "evaluation" if eval_only else "classifier's training"
        with lock_folder(folder, holder) if is_main_process() else nullcontext():
            if is_main_process() and not eval_only:
                check_output_dir(folder, resume=resume)
            wait_for_all()
            _set_up_logger(folder)
            data = load_data(cfg, eval_only=eval_only)
            if check_images:
                _check_images(cfg, data)
            yield data, device
            wait_for_all()


def _set_up_logger(folder: Path) -> None:
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


def _check_images(cfg: CfgNode, data: ClassificationData) -> None:
    """Read every image once and name the broken ones."""
    for split, images in (("training", data.train), ("test", data.test)):
        broken = [text for part in gather(find_broken(cfg, images)) for text in part]
        if is_main_process():
            for text in broken:
                logger.warning("%s image %s can't be read", split, text)
        number = len(images)
        logger.info("%d of %d %s images can be read", number - len(broken), number, split)


def _build_trained(
    cfg: CfgNode, classes: Sequence[str], path: Path
) -> tuple[NASNet | LibraryClassifier, int | None]:
    """The classifier of a checkpoint and its iteration."""
    if read_card(path) or read_library_card(path):
        raise ConfigError(
            f"{path} is a trunk alone, which tells no classes apart; give the classifier that it "
            "was exported from, or train one that starts from it"
        )
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


def _write_results(cfg: CfgNode, result: Evaluation, source: dict[str, Any]) -> None:
    if is_main_process():
        write_json(Path(cfg.OUTPUT_DIR) / RESULTS, {**source, **result.to_dict()})
