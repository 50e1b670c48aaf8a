"""Candidates of a search for detectors: put into a config, trained shortly, and measured."""

from __future__ import annotations

import contextlib
import math
import statistics
import tempfile
import time
from collections.abc import Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from detectron2.config import CfgNode
from detectron2.utils.events import EventStorage

from nasnet_det.complexity import count_calls, count_parameters
from nasnet_det.data.coco import read_coco
from nasnet_det.detection.candidate_config import build_config, shorten
from nasnet_det.detection.checkpoint import Checkpointer
from nasnet_det.detection.cost import name_device, read_images
from nasnet_det.detection.datasets import check_datasets, register_config_datasets
from nasnet_det.detection.inference import prepare_inference
from nasnet_det.detection.resize import build_test_resize
from nasnet_det.detection.run import write_run_info
from nasnet_det.detection.trainer import Trainer
from nasnet_det.runs.candidates import Candidate, DetectorTask, Latency, Speeds
from nasnet_det.runs.files import write_content
from nasnet_det.runs.threads import one_thread

FINAL = "model_final.pth"
PROBE_ITERATIONS, PROBE_PICTURES = 4, 3
NUM_WARMUP, NUM_ROUNDS, NUM_PICTURES = 2, 5, 5  # of each detector, whose time is measured
DIVISIBLE = 32  # sides that a picture is padded to


class CandidateStage:
    """Builds, trains and measures the detectors of a search; it has no state."""

    def train(
        self,
        candidate: Candidate,
        task: DetectorTask,
        *,
        iterations: int,
        seed: int,
        folder: Path,
        device: str,
    ) -> float:
        """Train, or go on in a folder that was begun.

        Args:
            candidate, task: what, and for what.
            iterations, seed: of the training.
            folder: gets what ``nasnet-det train`` writes; of checkpoints the last alone stays.
            device: where.

        Returns:
            AP on the held-out pictures, 0 to 1.

        Raises:
            InputError: it can't be built or trained, or the loss became infinite or NaN.
        """
        folder.mkdir(parents=True, exist_ok=True)
        cfg = build_config(candidate, task, folder, device=device)
        cfg.merge_from_list(["SEED", seed, "OUTPUT_DIR", str(folder)])
        shorten(cfg, iterations)
        with _write_into(folder / "log.txt"), one_thread():
            register_config_datasets(cfg)
            trainer = Trainer(cfg)
            trainer.resume_or_load(resume=True)
            write_run_info(cfg, ["nasnet-det", "search"], max_iter=trainer.max_iter)
            results = trainer.train()
        for path in folder.glob("model_*.pth"):
            if path.name != FINAL:
                path.unlink()
        ap = float(((results or {}).get("bbox") or {}).get("AP", math.nan))
        return ap / 100 if math.isfinite(ap) else 0.0  # where nothing was found there is no AP

    def measure_size(self, candidate: Candidate, task: DetectorTask) -> tuple[int, int]:
        """Parameters, and multiply-adds for a picture of the usual shape.

        Each region counts that the second part of the detector may get.
        """
        with tempfile.TemporaryDirectory() as folder, torch.random.fork_rng([]):
            cfg = build_config(candidate, task, Path(folder), device="cpu")
            model: Any = Trainer.build_model(cfg).eval().to("meta")
        height, width = _find_shape(task, candidate.min_size, cfg.INPUT.MAX_SIZE_TEST)
        with count_calls({"": [model]}) as counts, torch.no_grad():
            maps = model.backbone(torch.empty(1, 3, height, width, device="meta"))
            head = model.proposal_generator
            head.rpn_head([maps[name] for name in head.in_features])
            pooled = model.roi_heads.box_pooler.output_size
            channels = maps[model.roi_heads.box_in_features[0]].shape[1]
            number = cfg.MODEL.RPN.POST_NMS_TOPK_TEST
            regions = torch.empty(number, channels, *pooled, device="meta")
            model.roi_heads.box_predictor(model.roi_heads.box_head(regions))
        return count_parameters(model).trainable, counts[""]

    def measure_speeds(self, candidate: Candidate, task: DetectorTask, device: str) -> Speeds:
        """How long a training takes, from a few iterations and pictures.

        Raises:
            InputError: the data can't be trained on, or the detector can't be built.
        """
        with (
            tempfile.TemporaryDirectory() as folder,
            _write_into(Path(folder, "log.txt")),
            one_thread(),
        ):
            started = time.perf_counter()
            cfg = build_config(candidate, task, Path(folder), device=device)
            cfg.merge_from_list(["SEED", 0, "OUTPUT_DIR", folder])
            register_config_datasets(cfg)
            check_datasets(cfg)
            trainer = Trainer(cfg)
            setup = time.perf_counter() - started
            with EventStorage(0) as trainer.storage:
                for trainer.iter in range(PROBE_ITERATIONS):
                    if trainer.iter == 1:  # the first is slower
                        started = time.perf_counter()
                    trainer.run_step()
                iteration = (time.perf_counter() - started) / (PROBE_ITERATIONS - 1)
            model = prepare_inference(trainer.model.eval(), cfg)
            inputs = _read_inputs(cfg, PROBE_PICTURES)
            _time(model, inputs[0])
            picture = statistics.fmean(_time(model, one) for one in inputs)
        return Speeds(setup, iteration, picture / 1000)

    def measure_latencies(
        self, items: Sequence[tuple[Candidate, str]], task: DetectorTask, device: str
    ) -> list[Latency]:
        """The times of fused detectors for one picture; best called in a process of its own.

        They take turns, so what slows the machine for a while slows all alike.

        Args:
            items: each a candidate with the folder of its training, or "" for random weights.
            task: its held-out pictures are looked at, resized before the time is taken.
            device: of the detectors.
        """
        detectors = []
        for candidate, folder in items:
            with tempfile.TemporaryDirectory() as place:
                cfg = build_config(candidate, task, Path(place), device=device)
                register_config_datasets(cfg)
                model = Trainer.build_model(cfg).eval()
            if folder:
                weights = Checkpointer(model, save_to_disk=False, is_trained=True)
                weights.load(str(Path(folder, FINAL)))
            detectors.append((prepare_inference(model, cfg), _read_inputs(cfg, NUM_PICTURES)))
        times: list[list[float]] = [[] for _ in detectors]
        for model, inputs in detectors:
            for _ in range(NUM_WARMUP):
                _time(model, inputs[0])
        for _ in range(NUM_ROUNDS):
            for (model, inputs), own in zip(detectors, times, strict=True):
                own += [_time(model, one) for one in inputs]
        name, threads = name_device(torch.device(device)), torch.get_num_threads()
        return [_summarize(own, name, threads) for own in times]

    def write_config(self, candidate: Candidate, task: DetectorTask, path: Path) -> None:
        """A config with which ``nasnet-det train`` trains a candidate to its end.

        Args:
            candidate, task: what, and for what.
            path: of the YAML; a NASNet's cells are written beside it.
        """
        cfg = build_config(candidate, task, path.parent.resolve(), device="cuda")
        cfg.OUTPUT_DIR = f"output/{candidate.name}"
        write_content(path, cfg.dump())


@contextlib.contextmanager
def _write_into(path: Path) -> Iterator[None]:
    """What is printed meanwhile, warnings too, goes to the end of a file."""
    with (
        path.open("a", encoding="utf-8") as log,
        contextlib.redirect_stdout(log),
        contextlib.redirect_stderr(log),
    ):
        yield


@lru_cache(maxsize=100)
def _find_shape(task: DetectorTask, min_size: int, max_size: int) -> tuple[int, int]:
    """Height and width of a padded picture whose sides are in the held-out pictures' proportion."""
    sizes = read_coco(task.test_json, images=task.images).sizes
    known = sizes[np.isfinite(sizes).all(axis=1)]
    ratio = float(np.median(known[:, 0] / known[:, 1])) if len(known) else 1.0
    long_side = min(max_size, min_size * max(ratio, 1 / ratio))
    sides = [math.ceil(side / DIVISIBLE) * DIVISIBLE for side in (min_size, long_side)]
    return (sides[0], sides[1]) if ratio >= 1 else (sides[1], sides[0])


def _read_inputs(cfg: CfgNode, number: int) -> list[list[dict[str, Any]]]:
    """Held-out pictures as the detector gets them."""
    inputs, resize = [], build_test_resize(cfg)
    for image in read_images(cfg.DATASETS.TEST)[:number]:
        given = image if cfg.INPUT.FORMAT == "RGB" else image[:, :, ::-1]
        seen = resize.get_transform(given).apply_image(given).astype("float32")
        tensor = torch.as_tensor(seen.transpose(2, 0, 1))
        inputs.append([{"image": tensor, "height": image.shape[0], "width": image.shape[1]}])
    return inputs


@torch.no_grad()
def _time(model: Any, inputs: list[dict[str, Any]]) -> float:
    """Milliseconds until the boxes are on the CPU, which a GPU's work is done by."""
    start = time.perf_counter()
    model(inputs)[0]["instances"].to("cpu")
    return 1000 * (time.perf_counter() - start)


def _summarize(times: Sequence[float], device: str, threads: int) -> Latency:
    low, ms, high = (float(value) for value in np.quantile(times, [0.25, 0.5, 0.75]))
    return Latency(ms, low, high, len(times), device, threads)
