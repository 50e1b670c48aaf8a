"""Reading configs: the habits of Detectron2, and a sentence for what can't be meant."""

from __future__ import annotations

from pathlib import Path

import pytest
from yacs.config import CfgNode

from nasnet_det.config import ConfigError, get_config_file, list_configs, merge_config

# Each name stands for nine of the one before: 9 ** 9 values in all.
LAUGHS = "".join(
    f"X{i}: &x{i} [{', '.join(['1' if i == 0 else f'*x{i - 1}'] * 9)}]\n" for i in range(9)
)
MERGES = "X: &x {A: 1}\nSOLVER: {<<: [*x, *x]}\n"


def _defaults() -> CfgNode:
    return CfgNode(
        {
            "MODEL": {"NAME": "tiny", "WIDTHS": (8, 16), "FROZEN": False, "NORM": {"EPS": 1e-3}},
            "SOLVER": {"LR": 0.1, "STEPS": 10, "GROUPS": ["a"], "SCHEDULE": None},
            "OUTPUT_DIR": "output",
        }
    )


def _write(path: Path, text: str) -> str:
    path.write_text(text)
    return str(path)


def _merged(config_file: str = "", *opts: str) -> CfgNode:
    cfg = _defaults()
    merge_config(cfg, config_file, opts)
    return cfg


def test_file_overrides_its_base_and_opts_override_the_file(tmp_path: Path) -> None:
    _write(
        tmp_path / "base.yaml", "MODEL: {NAME: base, WIDTHS: [1]}\nSOLVER: {STEPS: 3, LR: 0.5}\n"
    )
    (tmp_path / "sub").mkdir()
    top = _write(tmp_path / "sub" / "top.yaml", "_BASE_: ../base.yaml\nSOLVER: {STEPS: 4}\n")
    cfg = _merged(top, "SOLVER.LR", "2", "MODEL.NORM.EPS", "1e-5")
    assert (cfg.MODEL.NAME, cfg.MODEL.WIDTHS, cfg.SOLVER.STEPS) == ("base", (1,), 4)
    assert (cfg.SOLVER.LR, cfg.MODEL.NORM.EPS) == (2.0, 1e-5)
    assert isinstance(cfg.SOLVER.LR, float)


@pytest.mark.parametrize(
    ("key", "text", "value"),
    [
        ("SOLVER.LR", "1", 1.0),
        ("SOLVER.LR", "1e-4", 1e-4),
        ("MODEL.WIDTHS", "(4, 5)", (4, 5)),
        ("MODEL.WIDTHS", "[4, 5]", (4, 5)),
        ("SOLVER.GROUPS", "('x', 'y')", ["x", "y"]),
        ("MODEL.FROZEN", "True", True),
        ("OUTPUT_DIR", "2024", "2024"),
        ("OUTPUT_DIR", "runs/a", "runs/a"),
        ("SOLVER.SCHEDULE", "0.5", 0.5),
    ],
)
def test_values_take_the_type_of_the_default(key: str, text: str, value: object) -> None:
    node = _merged("", key, text)
    for part in key.split("."):
        node = node[part]
    assert node == value
    assert type(node) is type(value)


@pytest.mark.parametrize(
    ("opts", "sentence"),
    [
        (["SOLVER.STPES", "1"], r"unknown config key 'SOLVER.STPES' \(value '1'\), did you mean 'SOLVER.STEPS'\?"),
        (["MODEL.NAME.X", "1"], r"unknown config key 'MODEL.NAME.X'"),
        (["SOLVER.STEPS", "1.5"], r"SOLVER.STEPS: wanted a whole number \(the default is 10\), got 1.5"),
        (["SOLVER.STEPS", "True"], r"SOLVER.STEPS: wanted a whole number .*, got True"),
        (["SOLVER.LR", "fast"], r"SOLVER.LR: wanted a number .*, got 'fast'"),
        (["MODEL.FROZEN", "1"], r"MODEL.FROZEN: wanted True or False .*, got 1"),
        (["MODEL.WIDTHS", "8"], r"MODEL.WIDTHS: wanted a list .*, got 8"),
        (["MODEL", "8"], r"MODEL: wanted one of its keys \(NAME, WIDTHS, FROZEN, NORM\), got '8'"),
        (["SOLVER.LR", "1" + "0" * 400], r"SOLVER.LR: wanted a number .*, got 1000"),
        (["SOLVER.LR", "0x" + "f" * 5000], r"SOLVER.LR: wanted a number .*, got '0xfff"),
        (["SOLVER.LR", "{[]: 1}"], r"SOLVER.LR: wanted a number .*, got '\{\[\]: 1\}'"),
        (["SOLVER.LR", "-" * 10**5 + "1"], r"SOLVER.LR: wanted a number .*, got '-{100}"),
        (["SOLVER.LR"], r"wanted KEY VALUE pairs, got no value after 'SOLVER.LR'"),
    ],
)  # fmt: skip
def test_impossible_override_names_key_value_and_wish(opts: list[str], sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        _merged("", *opts)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("SOLVER: {LR: 1}\nSOLVER: {STEPS: 2}\n", "key 'SOLVER' is written twice"),
        ("SOLVER:\n  LR: 1\n  LR: 2\n", "key 'LR' is written twice"),
        ("SOLVER: {LR: null}\n", "SOLVER.LR: wanted a number .*, got None"),
        ("SOLVER: {LRR: 1}\n", "file.yaml: unknown config key 'SOLVER.LRR' .*did you mean 'SOLVER.LR'"),
        ("SOLVER: 3\n", "SOLVER: wanted one of its keys"),
        ("- 1\n", "wanted KEY: VALUE pairs"),
        ("a: [1\n", "file.yaml can't be read as YAML"),
        ("OUTPUT_DIR: !!python/object/apply:os.getcwd []\n", "can't be read as YAML: could not determine"),
        ("_BASE_: file.yaml\n", "its _BASE_ leads back to itself"),
        ("_BASE_: nowhere.yaml\n", "nowhere.yaml can't be read: No such file"),
        ("_BASE_: [a.yaml]\n", r"_BASE_: wanted the path of one config, got \['a.yaml'\]"),
        ('_BASE_: "a\\0b"\n', "can't be read: embedded null byte"),
        ("OUTPUT_DIR: 2001-99-99\n", "can't be read as YAML: month must be in 1..12"),
        ("OUTPUT_DIR: !!bool x\n", "can't be read as YAML: 'x'"),
        ("OUTPUT_DIR: " + "[" * 3000, "can't be read as YAML: maximum recursion depth"),
        ("OUTPUT_DIR: &a [*a]\n", "its aliases .* stand for over 1,000,000 values"),
        (LAUGHS, "its aliases .* stand for over 1,000,000 values"),
        (MERGES, r"key '<<' \(merging\) is not understood here"),
        ("OUTPUT_DIR: 0x" + "f" * 5000, "can't be read as YAML: Exceeds the limit"),
        ("OUTPUT_DIR: " + "9" * 5000, "can't be read as YAML: Exceeds the limit"),
    ],
)  # fmt: skip
def test_impossible_file_is_one_sentence(text: str, sentence: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=sentence) as caught:
        _merged(_write(tmp_path / "file.yaml", text))
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 1000


def test_empty_file_changes_nothing(tmp_path: Path) -> None:
    assert _merged(_write(tmp_path / "empty.yaml", "# nothing\n")) == _defaults()


def test_config_of_the_package_is_found_by_name() -> None:
    name = "COCO-Detection/faster_rcnn_nasnet_a_mobile_FPN_1x.yaml"
    assert name in list_configs()
    assert Path(get_config_file(name)).is_file()
    with pytest.raises(
        ConfigError, match="did you mean 'COCO-Detection/faster_rcnn_nasnet_a_mobile_F"
    ):
        get_config_file("COCO-Detection/faster_rcnn_nasnet_a_mobile_FPN_1.yaml")
    with pytest.raises(ConfigError, match="and none is like it"):
        get_config_file("?")


def test_home_folder_is_meant_in_every_path_of_files_and_overrides(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "mine.yaml").write_text("DATA: {PATH: ~/images}\nSIZE: '~3'\n")
    cfg = CfgNode({"DATA": {"PATH": ""}, "OUTPUT_DIR": "", "SIZE": ""})
    merge_config(cfg, "~/mine.yaml", ["OUTPUT_DIR", "~/out"])
    assert f"{tmp_path}/images" == cfg.DATA.PATH
    assert f"{tmp_path}/out" == cfg.OUTPUT_DIR
    assert cfg.SIZE == "~3"
