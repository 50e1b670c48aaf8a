"""The whole chain as a list of stages: search, classifier, backbone, detector, evaluation, report.

A pipeline's config names the configs of its parts. What a stage takes from the one before it is set
here: the cells that the search found, and for the detector the classifier's network, weights and
preprocessing.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from yacs.config import CfgNode

from nasnet_det.config import ConfigError, flatten, merge_config
from nasnet_det.network_config import NETWORK_KEYS
from nasnet_det.pipeline.stages import Stage
from nasnet_det.runs.keys import Effect, select_keys

ReadConfig = Callable[[str, Sequence[str]], CfgNode]


def add_pipeline_config(cfg: CfgNode) -> None:
    """Add the keys of a pipeline, with their defaults."""
    # Gets a folder for each stage, and pipeline.json.
    cfg.OUTPUT_DIR = "output/pipeline"
    # Processes that train the classifier and the detector on this machine, one on each GPU; 0: one
    # process, on a GPU where there is one. The search's are in its own config.
    cfg.NUM_GPUS = 0
    # CONFIG: a path, or the name of a config that comes with this package; empty: no such stage.
    # OPTS: KEY VALUE pairs for it.
    cfg.SEARCH = CfgNode({"CONFIG": "", "OPTS": []})
    # With the search's cells. Its trunk becomes the detector's backbone.
    cfg.CLASSIFIER = CfgNode({"CONFIG": "", "OPTS": []})
    # With the classifier's network and weights, or else with the search's cells; without a
    # classifier, a detector that has MODEL.WEIGHTS of its own stays as its config says.
    cfg.DETECTOR = CfgNode({"CONFIG": "", "OPTS": []})
    # Further pairs for the detector when it is evaluated, such as the size of the images.
    cfg.EVALUATION = CfgNode({"OPTS": []})


def get_pipeline_config(config_file: str = "", opts: Sequence[str] = ()) -> CfgNode:
    """Defaults, then a config file, then overrides.

    Args:
        config_file: a path, or the name of a config that comes with this package.
        opts: ``KEY VALUE`` pairs; ``search.KEY VALUE``, ``classifier.``, ``detector.`` and
            ``evaluation.KEY VALUE`` add a pair to the stage's OPTS.

    Raises:
        ConfigError: the file is missing or not YAML, or a key or a value can't be meant.
    """
    cfg = CfgNode()
    add_pipeline_config(cfg)
    stages = [name for name, node in cfg.items() if isinstance(node, CfgNode)]
    own: list[str] = []
    added: list[tuple[str, list[str]]] = []
    for i in range(0, len(opts), 2):
        stage, _, key = opts[i].partition(".")
        if stage.upper() in stages and stage.islower() and opts[i + 1 : i + 2]:
            added.append((stage.upper(), [key, opts[i + 1]]))
        else:
            own += opts[i : i + 2]
    merge_config(cfg, config_file, own)
    for stage, pair in added:
        cfg[stage].OPTS += pair
    return cfg


def plan_stages(cfg: CfgNode, readers: Mapping[str, ReadConfig]) -> list[Stage]:
    """The stages of a pipeline, in order; nothing is run or written.

    Args:
        cfg: see :func:`get_pipeline_config`.
        readers: ``search``, ``classifier`` and ``detector`` -> what reads and checks its config.

    Raises:
        ConfigError: there is no stage, or the config of one can't be meant.
    """
    planner = _Planner(cfg, readers)
    if cfg.SEARCH.CONFIG:
        planner.add_search()
    if cfg.CLASSIFIER.CONFIG:
        planner.add_classifier()
    if cfg.DETECTOR.CONFIG:
        planner.add_detector()
    if not planner.stages:
        raise ConfigError("wanted a CONFIG of SEARCH, CLASSIFIER or DETECTOR, got none")
    return planner.stages


class _Planner:
    """The stages so far, and what the next ones take from them."""

    def __init__(self, cfg: CfgNode, readers: Mapping[str, ReadConfig]) -> None:
        self.cfg, self.readers = cfg, readers
        self.root = Path(cfg.OUTPUT_DIR)
        self.stages: list[Stage] = []
        self.cells: dict[str, Any] = {}  # keys of MODEL.NASNET that the search decides
        self.backbone: dict[str, Any] = {}  # keys of the detector that the classifier decides

    def add_search(self) -> None:
        folder, report = self.root / "search", self.root / "search_report"
        genotype = folder / "genotype.json"
        config, words = self._read("search", {"OUTPUT_DIR": folder})
        command = ["search", "--resume", *words]
        self._add("search", command, config, part="search", outputs=[genotype])
        self._add(
            "search_report",
            ["report", folder, "--out", report],
            inputs=[genotype],
            outputs=[report / "report.html"],
        )
        self.cells = {"MODEL.NASNET.GENOTYPE": genotype}

    def add_classifier(self) -> None:
        folder = self.root / "classifier"
        weights, exported = folder / "model_final.pth", self.root / "export/backbone.safetensors"
        config, words = self._read("classifier", {**self.cells, "OUTPUT_DIR": folder})
        command = ["train-classifier", "--resume", *words]
        self._add(
            "classifier",
            command,
            config,
            part="classifier",
            cells=list(self.cells.values()),
            outputs=[weights],
            launcher=self._torchrun(),
        )
        words = ["export-backbone", str(weights), str(exported)]
        self._add("export", words, inputs=[weights], outputs=[exported])
        self.backbone = {
            **{f"MODEL.NASNET.{key}": config[f"MODEL.NASNET.{key}"] for key in NETWORK_KEYS},
            "MODEL.PIXEL_MEAN": config["DATA.PIXEL_MEAN"],
            "MODEL.PIXEL_STD": config["DATA.PIXEL_STD"],
            "INPUT.FORMAT": "RGB",
            "MODEL.WEIGHTS": exported,
        }

    def add_detector(self) -> None:
        folder, evaluation = self.root / "detector", self.root / "evaluation"
        given = {**self.backbone, **self.cells}
        if not self.backbone and self._read("detector", {})[0]["MODEL.WEIGHTS"]:
            given = {}  # weights of other cells would not fit the search's
        weights, results = folder / "model_final.pth", folder / "results.json"
        gpus = ["--num-gpus", self.cfg.NUM_GPUS] if self.cfg.NUM_GPUS else []
        config, words = self._read("detector", {**given, "OUTPUT_DIR": folder})
        command = ["train", "--resume", *gpus, *words]
        cells = [path for path in given.values() if path in self.cells.values()]
        self._add(
            "detector",
            command,
            config,
            part="detector",
            cells=cells,
            inputs=[path for path in self.backbone.values() if isinstance(path, Path)],
            outputs=[weights, results],
        )
        given = {**given, "MODEL.WEIGHTS": weights, "OUTPUT_DIR": evaluation}
        config, words = self._read("detector", given, self.cfg.EVALUATION.OPTS)
        self._add(
            "evaluation",
            ["train", "--eval-only", *gpus, *words],
            config,
            part="detector",
            cells=cells,
            inputs=[weights],
            outputs=[evaluation / "results.json"],
        )
        report = self.root / "report"
        command = ["report", folder, "--out", report]
        self._add("report", command, inputs=[weights, results], outputs=[report / "report.html"])

    def _torchrun(self) -> list[str]:
        number = self.cfg.NUM_GPUS
        words = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(number)]
        return words if number else []

    def _read(
        self, part: str, given: Mapping[str, Any], opts: Sequence[Any] = ()
    ) -> tuple[dict[str, Any], list[str]]:
        """A part's checked config, key by key, and the words that say it to its command."""
        node = self.cfg[part.upper()]
        pairs = [word for pair in given.items() for word in pair]
        words = [str(word) for word in (*node.OPTS, *opts, *pairs)]
        try:
            config = dict(flatten(self.readers[part](node.CONFIG, words)))
        except ValueError as error:
            raise ConfigError(f"{part}: {error}") from None
        return config, ["--config-file", node.CONFIG, *words]

    def _add(
        self,
        name: str,
        command: Sequence[Any],
        config: Mapping[str, Any] | None = None,
        *,
        part: str = "",
        outputs: Sequence[Path],
        inputs: Sequence[Path] = (),
        cells: Sequence[Path] = (),
        launcher: Sequence[str] = (),
    ) -> None:
        self.stages.append(
            Stage(
                name=name,
                command=(*launcher, "-m", "nasnet_det", *map(str, command)),
                folder=self.root / name,
                part=part,
                config=_find_decisive(config or {}, part, (*inputs, *cells)),
                inputs=tuple(inputs),
                cells=tuple(cells),
                outputs=tuple(outputs),
            )
        )


def _find_decisive(config: Mapping[str, Any], part: str, inputs: Sequence[Path]) -> dict[str, Any]:
    """The keys on which the outcome depends; of an input counts its content, not its place."""
    places = {str(path) for path in inputs}
    effects = set(Effect) - {Effect.NOTHING}
    decisive = {
        key: value
        for key, value in select_keys(config, effects, stage=part).items()
        if not (isinstance(value, str) and value in places)
    }
    plain: dict[str, Any] = json.loads(json.dumps(decisive))
    return plain
