"""Distillation: what a step computes, who may teach, and what is kept of a teacher's answers."""

from __future__ import annotations

import sys
import types
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from tiny_classification import CPU, make_config
from tiny_pictures import write_class
from torch import nn
from yacs.config import CfgNode

from nasnet_det.classification.backbone import export_backbone
from nasnet_det.classification.config import get_classification_config
from nasnet_det.classification.data import NO_LABEL, load_data
from nasnet_det.classification.distillation import (
    compute_label_loss,
    compute_teacher_loss,
    has_classes,
)
from nasnet_det.classification.loader import Batch, build_train_loader
from nasnet_det.classification.loop import Trainer
from nasnet_det.classification.teacher_cache import TeacherCache
from nasnet_det.classification.teachers import Teacher, build_teacher
from nasnet_det.config import ConfigError
from nasnet_det.data.error import DataError
from nasnet_det.errors import InputError

PLAIN = "MODEL.NASNET.DROP_PATH_PROB 0 MODEL.NASNET.DROPOUT 0 SOLVER.NUM_PARTS 1 AUX.WEIGHT 0"


class Tall(nn.Module):
    """A teacher of 6 classes that looks at the mean colors; it notes the sizes that it sees."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(3)
        self.seen: list[tuple[int, ...]] = []
        self.first, self.last = nn.Linear(3, 5), nn.Linear(5, 6)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        self.seen.append(tuple(images.shape))
        return self.last(self.first(images.mean(dim=(2, 3)) / 50).relu())


def make(folder: Path, *opts: str) -> CfgNode:
    """The quick config without randomness; its folder is there."""
    cfg = make_config(folder, *PLAIN.split(), "AUGMENT.CUTOUT", "0", "SOLVER.EPOCHS", "1", *opts)
    Path(cfg.OUTPUT_DIR).mkdir(exist_ok=True)
    return cfg


def make_batch(indices: Sequence[int] = range(16)) -> Batch:
    images = torch.randint(0, 256, (16, 3, 32, 32), dtype=torch.uint8)
    return Batch(images, torch.arange(16) % 4, [], torch.tensor(list(indices)))


def test_losses_are_the_formulas() -> None:
    logits, taught = torch.randn(4, 5), torch.randn(4, 5)
    p, q = (torch.softmax(x / 3, dim=1) for x in (taught, logits))
    wanted = 9 * (p * (p / q).log()).sum(1).mean()
    torch.testing.assert_close(compute_teacher_loss(logits, taught, 3.0), wanted)
    labels = torch.tensor([1, NO_LABEL, 4, NO_LABEL])
    wanted = F.cross_entropy(logits[[0, 2]], labels[[0, 2]], label_smoothing=0.1)
    torch.testing.assert_close(compute_label_loss(logits, labels, 0.1), wanted)
    assert compute_label_loss(logits, torch.full((4,), NO_LABEL)) == 0


@pytest.mark.parametrize("num_parts", ["1", "3"])
def test_one_step_is_the_formula(tmp_path: Path, num_parts: str) -> None:
    """Another number of classes: the student has layers of its own for the teacher's."""
    opts = ["DISTILL.WEIGHT", "0.3", "DISTILL.TEMPERATURE", "3", "DISTILL.FEATURE_WEIGHT", "0.7"]
    norm = ["MODEL.NASNET.NORM", "GN", "SOLVER.NUM_PARTS", num_parts]  # statistics know no parts
    cfg = make(tmp_path, *opts, *norm, "EMA.DECAY", "0", "SOLVER.WARMUP_EPOCHS", "0")
    teacher = Tall()
    trainer, twin = (Trainer(cfg, load_data(cfg), device=CPU, teacher=teacher) for _ in range(2))
    batch = make_batch()
    trainer.learner.step(batch, 0)
    student: Any = twin.learner._student
    student.train()
    mean, std = (
        torch.tensor(v).view(1, 3, 1, 1) for v in (cfg.DATA.PIXEL_MEAN, cfg.DATA.PIXEL_STD)
    )
    pooled: list[torch.Tensor] = []
    student.model.dropout.register_forward_pre_hook(lambda _, x: pooled.append(x[0]))
    logits = student.model((batch.images.float() - mean) / std)
    colors = batch.images.float().mean(dim=(2, 3)) / 50
    features = teacher.first(colors).relu()
    taught = teacher.last(features)
    mine = student.heads["logits"](pooled[0])
    loss = 0.7 * F.cross_entropy(logits, batch.labels, label_smoothing=0.1)
    loss = loss + 0.3 * compute_teacher_loss(mine, taught.detach(), 3.0)
    cosine = F.cosine_similarity(student.heads["features"](pooled[0]), features.detach())
    loss = loss + 0.7 * (1 - cosine).mean()
    torch.testing.assert_close(trainer.learner.loss, loss.detach(), rtol=1e-4, atol=1e-5)
    loss.backward()
    trained = dict(trainer.learner._student.named_parameters())  # type: ignore[union-attr]
    for name, p in student.named_parameters():
        decay = 5e-4 if p.ndim > 1 else 0.0
        wanted = p - 0.05 * (p.grad + decay * p)
        torch.testing.assert_close(trained[name], wanted, rtol=1e-3, atol=1e-5)
    assert all(p.grad is None for p in teacher.parameters())


def test_teacher_of_these_classes_teaches_the_classifier_itself(tmp_path: Path) -> None:
    cfg = make(tmp_path, "DISTILL.WEIGHT", "1", "EMA.DECAY", "0")
    data = load_data(cfg)
    assert has_classes(Teacher("", Tall(), 0, classes=data.classes), 4, data.classes)
    assert not has_classes(Teacher("", Tall(), 0, classes=("a", "b")), 2, data.classes)
    wordnet = [f"n{i:08}" for i in range(1000)]
    assert has_classes(Teacher("", Tall(), 0), 1000, wordnet)
    assert not has_classes(Teacher("", Tall(), 0), 1000, [*wordnet[1:], "cat"])
    Trainer(cfg, data, device=CPU, teacher=Tall()).train()
    path = Path(cfg.OUTPUT_DIR, "model_final.pth")
    student_of = make(tmp_path, "DISTILL.TEACHER", str(path), "DISTILL.WEIGHT", "1")
    learner = Trainer(student_of, data, device=CPU).learner
    assert learner._student is not None
    assert not learner._student.heads, "the classes are those of the data"
    before = learner.model.classifier.weight.clone()
    learner.step(make_batch(), 0)
    assert not torch.equal(before, learner.model.classifier.weight)
    export_backbone(path, tmp_path / "trunk.safetensors")
    with pytest.raises(ConfigError, match=r"wanted a classifier, got .*, which is a trunk alone"):
        build_teacher(str(tmp_path / "trunk.safetensors"))


def test_teacher_sees_its_own_size_and_whitening() -> None:
    seen: list[torch.Tensor] = []

    def look(images: torch.Tensor) -> torch.Tensor:
        seen.append(images)
        return images.mean(dim=(2, 3))

    teacher = Teacher("", look, 48, (10.0, 20.0, 30.0), (2.0, 4.0, 5.0))
    image = torch.full((1, 3, 32, 32), 50, dtype=torch.uint8)
    torch.testing.assert_close(teacher(image).logits, torch.tensor([[20.0, 7.5, 4.0]]))
    assert seen[0].shape == (1, 3, 48, 48)
    with pytest.raises(ConfigError, match="FEATURE_WEIGHT: wanted a teacher whose last layer is"):
        Teacher("", look, 48, with_features=True)(image)


def test_killed_and_resumed_gives_the_same_bits(tmp_path: Path) -> None:
    opts = ["DISTILL.FEATURE_WEIGHT", "1", "SOLVER.CHECKPOINT_PERIOD", "1"]
    states = []
    for stop in (0, 2):
        folder = tmp_path / str(stop)
        folder.mkdir()
        cfg = make(folder, *opts)
        data = load_data(cfg)

        def kill(trainer: Trainer, stop: int = stop) -> None:
            if trainer.iteration == stop:
                raise KeyboardInterrupt

        if stop:
            with pytest.raises(KeyboardInterrupt):
                Trainer(cfg, data, device=CPU, teacher=Tall(), on_step=kill).train()
        trainer = Trainer(cfg, data, device=CPU, teacher=Tall())
        assert trainer.resume() == bool(stop)
        trainer.train()
        states.append(trainer.learner.state_dict())
    for part in ("model", "heads", "ema"):
        assert all(torch.equal(v, states[1][part][k]) for k, v in states[0][part].items())


def test_kept_answers_are_the_teacher_s_and_are_asked_for_once(tmp_path: Path) -> None:
    opts = ["DISTILL.CACHE", "True", "DISTILL.IMAGE_SIZE", "40", "DATA.NUM_TRAIN", "32"]
    cfg = make(tmp_path, *opts, "DISTILL.FEATURE_WEIGHT", "1")
    data, model = load_data(cfg), Tall()
    trainer = Trainer(cfg, data, device=CPU, teacher=model)
    trainer.train()
    assert {shape[2:] for shape in model.seen} == {(40, 40)}
    assert sum(shape[0] for shape in model.seen if shape[0] > 1) == 32, "each image once"
    cache = trainer.learner.ask_teacher
    assert isinstance(cache, TeacherCache)
    teacher = Teacher("", model, 40, with_features=True)
    (batch,) = build_train_loader(cfg, data, start=0, stop=1)
    kept = cache(batch.images, batch.indices)
    images = [data.train.take(_chosen(cfg)).read(int(i))[0] for i in batch.indices]
    for one, other in zip(kept, teacher(torch.stack(images)), strict=True):
        torch.testing.assert_close(one, other, rtol=2e-2, atol=2e-2)
    rows = np.load(cache.path, mmap_mode="r+")
    rows[:3] = np.nan  # as if the process had been killed
    rows.flush()
    model.seen.clear()
    TeacherCache(cfg, trainer._teacher, data.train.take(_chosen(cfg)), CPU)  # type: ignore[arg-type]
    assert [shape[0] for shape in model.seen] == [1, 3]
    assert not np.isnan(np.load(cache.path)).any()


@pytest.mark.parametrize("cache", ["False", "True"])
def test_teacher_computes_in_the_precision_of_the_training(tmp_path: Path, cache: str) -> None:
    """What it said in one precision is no answer in another."""

    class Watched(Tall):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            if len(images) > 1:  # one image asks for the number of classes
                types.add(F.linear(images[:, :, 0, 0], torch.eye(3)).dtype)
            orders.add(images.is_contiguous(memory_format=torch.channels_last))
            return super().forward(images)

    types: set[torch.dtype] = set()
    orders: set[bool] = set()
    kept = []
    for precision in ("float32", "bfloat16"):
        types.clear()
        opts = ["DISTILL.CACHE", cache, "SOLVER.PRECISION", precision, "DATA.NUM_TRAIN", "32"]
        cfg = make(tmp_path, *opts)
        Trainer(cfg, load_data(cfg), device=CPU, teacher=Watched()).train()
        assert types == {getattr(torch, precision)}
        kept = sorted(Path(cfg.OUTPUT_DIR).glob("teacher-*.npy"))
    assert orders == {True}
    assert len(kept) == (2 if cache == "True" else 0)


def _chosen(cfg: CfgNode) -> np.ndarray:
    from nasnet_det.runs.seeds import derive_seed

    generator = torch.Generator().manual_seed(derive_seed(cfg.SEED))
    return torch.randperm(64, generator=generator)[: cfg.DATA.NUM_TRAIN].numpy()


def test_pictures_without_labels_are_learned_from_the_teacher(tmp_path: Path) -> None:
    write_class(tmp_path / "more/deeper", [(200, 9, 9), (9, 200, 9), (9, 9, 200)])
    opts = ["DISTILL.IMAGES", str(tmp_path / "more"), "DATA.NUM_TRAIN", "0"]
    cfg = make(tmp_path, *opts, "SOLVER.BATCH_SIZE", "67")
    data = load_data(cfg)
    assert len(data.train) == 64 + 3
    (batch,) = build_train_loader(cfg, data, start=0, stop=1)
    assert sorted(batch.labels.tolist())[:4] == [NO_LABEL] * 3 + [0]
    trainer = Trainer(cfg, data, device=CPU, teacher=Tall())
    trainer.learner.step(batch, 0)
    assert torch.isfinite(trainer.learner.loss)
    (tmp_path / "empty").mkdir()
    cfg.DISTILL.IMAGES = str(tmp_path / "empty")
    with pytest.raises(DataError, match=r"DISTILL.IMAGES: wanted a folder with pictures in it"):
        load_data(cfg)


# ---- Libraries


def test_libraries_teachers_bring_their_size_and_whitening(monkeypatch: pytest.MonkeyPatch) -> None:
    timm: Any = types.ModuleType("timm")
    timm.create_model = lambda name, pretrained: nn.Linear(1, 1) if pretrained else None
    about = {"mean": (0.5, 0.4, 0.3), "std": (0.2, 0.2, 0.1), "input_size": (3, 96, 96)}
    timm.list_models = lambda: ["anything"]
    timm.data = types.SimpleNamespace(resolve_model_data_config=lambda _: about)
    monkeypatch.setitem(sys.modules, "timm", timm)
    teacher = build_teacher("timm:anything")
    assert (teacher.image_size, build_teacher("timm:anything", 64).image_size) == (96, 64)
    assert teacher.mean == pytest.approx((127.5, 102, 76.5))
    assert teacher.std == pytest.approx((51, 51, 25.5))

    from torchvision.models import MobileNet_V3_Small_Weights as Weights
    from torchvision.models import mobilenet_v3_small

    monkeypatch.setattr(
        Weights, "get_state_dict", lambda *_, **__: mobilenet_v3_small().state_dict()
    )
    teacher = build_teacher("torchvision:mobilenet_v3_small")
    assert teacher.image_size == 224
    assert teacher.mean == pytest.approx((0.485 * 255, 0.456 * 255, 0.406 * 255))
    assert teacher(torch.zeros(1, 3, 32, 32)).logits.shape == (1, 1000)


# ---- Mistakes


@pytest.mark.parametrize(
    ("opts", "told"),
    [
        (("DISTILL.WEIGHT", "1.5"), r"DISTILL.WEIGHT: wanted a number in \[0, 1\], got 1.5"),
        (("DISTILL.TEMPERATURE", "0"), "DISTILL.TEMPERATURE: wanted more than 0"),
        (("DISTILL.FEATURE_WEIGHT", "-1"), "DISTILL.FEATURE_WEIGHT: wanted at least 0"),
        (("DISTILL.CACHE", "True", "AUGMENT.MIXUP", "1"), "DISTILL.CACHE: wanted no mixed images"),
        (("DISTILL.IMAGES", "a", "AUGMENT.CUTMIX", "1"), "DISTILL.IMAGES: wanted no mixed images"),
    ],
)
def test_impossible_value_is_one_sentence(opts: tuple[str, ...], told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        get_classification_config(opts=opts)


def test_missing_and_second_teachers_are_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cfg = make(tmp_path, "DISTILL.CACHE", "True")
    data = load_data(cfg)
    with pytest.raises(ConfigError, match=r"DISTILL.CACHE: wanted a DISTILL.TEACHER too, got none"):
        Trainer(cfg, data, device=CPU)
    cfg.DISTILL.TEACHER = "timm:resnet18"
    with pytest.raises(ConfigError, match="wanted none beside the teacher that is given"):
        Trainer(cfg, data, device=CPU, teacher=Tall())
    monkeypatch.setitem(sys.modules, "timm", None)
    monkeypatch.setitem(sys.modules, "efficientnet_lite_pytorch", None)
    for name, told in (
        (
            "timm:resnet18",
            r"the package timm is not installed: run pip install 'nasnet-det\[timm\]'",
        ),
        ("efficientnet-lite:2", "run pip install efficientnet-lite-pytorch"),
        ("efficientnet-lite:9", "wanted efficientnet-lite:0 to :4, got"),
        (
            "torchvision:resnet19",
            "DISTILL.TEACHER: torchvision has no 'resnet19', did you mean 'resnet18'",
        ),
    ):
        with pytest.raises(InputError, match=told):
            build_teacher(name)
    cfg.DISTILL.TEACHER = ""
    with pytest.raises(ConfigError, match=r"wanted logits \(images, classes\)"):
        Trainer(cfg, data, device=CPU, teacher=lambda images: images)
