"""The configs that come with the package, and the strict reader that every stage uses.

The language is Detectron2's: YAML with ``_BASE_``, then ``KEY VALUE`` overrides. Unlike plain yacs,
an unknown key, a value of the wrong type and a key written twice are each one clear sentence, an
int is accepted for a float and a list for a tuple, and YAML tags never build Python objects.
"""

from __future__ import annotations

import ast
import math
import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import yaml
from yacs.config import CfgNode

from nasnet_det.errors import InputError
from nasnet_det.near_names import nearest_of_many

MAX_VALUES = 1_000_000  # of a YAML

_PACKAGE = Path(__file__).resolve().parent


class ConfigError(InputError):
    """A config that can't be meant; the message names the key, the value and what was wanted."""


def config_folder() -> Path:
    """Where the configs are: inside an installed package, beside the package in a checkout."""
    inside = _PACKAGE / "configs"
    return inside if inside.is_dir() else _PACKAGE.parent / "configs"


def list_configs() -> list[str]:
    """Names of all configs, relative to ``configs/``."""
    folder = config_folder()
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*.yaml"))


def get_config_file(name: str) -> str:
    """The path of a config that comes with the package.

    Args:
        name: for example ``COCO-Detection/faster_rcnn_nasnet_a_mobile_FPN_1x.yaml``.

    Raises:
        ConfigError: there is no such config; the nearest is named.
    """
    path = config_folder() / name
    if not path.is_file():
        raise ConfigError(f"no config file {name!r}, {nearest_of_many(name, list_configs())}")
    return str(path)


def merge_config(cfg: CfgNode, config_file: str = "", opts: Sequence[str] = ()) -> None:
    """Set the values of a config file, then those of overrides.

    Args:
        cfg: the defaults; changed in place.
        config_file: a path, or a name for :func:`get_config_file`. Empty: no file.
        opts: ``KEY VALUE`` pairs.

    Raises:
        ConfigError: the file is missing or not YAML, or a key or a value can't be meant.
    """
    if config_file:
        path = os.path.expanduser(config_file)
        path = path if os.path.isfile(path) else get_config_file(config_file)
        for key, value in flatten(_read_with_base(path)):
            _set(cfg, key, value, f"{config_file}: ")
    if len(opts) % 2:
        raise ConfigError(f"wanted KEY VALUE pairs, got no value after {opts[-1]!r}")
    for key, text in zip(opts[::2], opts[1::2], strict=True):
        _set(cfg, key, text, "")


def merge_text(cfg: CfgNode, text: str, where: str) -> None:
    """Set the values of a YAML that has no ``_BASE_``, such as a checkpoint's.

    Args:
        cfg: the defaults; changed in place.
        text: the YAML.
        where: opens the sentence of a fault.

    Raises:
        ConfigError: it is no YAML, or a key or a value can't be meant.
    """
    data = parse_yaml(text, where)
    if not isinstance(data, dict):
        raise ConfigError(f"{where}: wanted KEY: VALUE pairs, got {data!r:.60}")
    for key, value in flatten(data):
        _set(cfg, key, value, f"{where}: ")


def flatten(data: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """All keys of a config, or of a file's mapping, with their values."""
    for key, value in data.items():
        if isinstance(value, dict):
            yield from flatten(value, f"{prefix}{key}.")
        else:
            yield prefix + str(key), value


def parse_yaml(text: str, where: str) -> Any:
    """What a YAML holds: plain values, never Python objects.

    Args:
        text: the YAML.
        where: opens the sentence of a fault.

    Raises:
        ConfigError: it is no YAML, has a key twice, or aliases that stand for endless values.
    """
    try:
        data = yaml.load(text, Loader=_UniqueKeyLoader)
        number = _count_values(data, {})
    except Exception as error:  # its constructors raise anything, from KeyError to RecursionError
        reason = " ".join(str(error).split()) or type(error).__name__
        raise ConfigError(f"{where} can't be read as YAML: {reason:.300}") from None
    if number > MAX_VALUES:
        raise ConfigError(f"{where}: its aliases (*name) stand for over {MAX_VALUES:,} values")
    return data


def _count_values(data: Any, counts: dict[int, float]) -> float:
    """How many values a document has when each alias is written out; inf where that has no end."""
    if not isinstance(data, dict | list):
        repr(data)  # which fails of endless numbers, and so would a sentence about them
        return 1
    if id(data) not in counts:
        counts[id(data)] = math.inf  # until it is known: what holds itself
        inner = data.values() if isinstance(data, dict) else data
        counts[id(data)] = 1 + sum(_count_values(value, counts) for value in inner)
    return counts[id(data)]


class _UniqueKeyLoader(yaml.SafeLoader):
    """YAML where a key that stands twice in one mapping is an error instead of being dropped."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = Counter(
            (key.tag, key.value) for key, _ in node.value if isinstance(key, yaml.ScalarNode)
        )
        for (tag, key), number in keys.items():
            if number > 1 or tag == "tag:yaml.org,2002:merge":  # merged lists may grow endlessly
                fault = "is written twice" if number > 1 else "(merging) is not understood here"
                raise yaml.constructor.ConstructorError(
                    None, None, f"key {key!r} {fault}", node.start_mark
                )
        return super().construct_mapping(node, deep)


def _read_with_base(path: str, seen: tuple[str, ...] = ()) -> dict[str, Any]:
    """A file's mapping on top of that of its ``_BASE_``."""
    if path in seen:
        raise ConfigError(f"{path}: its _BASE_ leads back to itself")
    try:
        text = Path(path).read_text(encoding="utf-8-sig")
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ConfigError(f"config file {path} can't be read: {reason}") from None
    data = parse_yaml(text, path)
    data = {} if data is None else data
    if not isinstance(data, dict):
        raise ConfigError(f"{path}: wanted KEY: VALUE pairs, got {data!r:.60}")
    base = data.pop("_BASE_", None)
    if base is None:
        return data
    if not isinstance(base, str):
        raise ConfigError(f"{path}: _BASE_: wanted the path of one config, got {base!r:.100}")
    base_path = os.path.join(os.path.dirname(path), os.path.expanduser(base))
    merged = _read_with_base(os.path.normpath(base_path), (*seen, path))
    _merge(data, merged)
    return merged


def _merge(top: dict[str, Any], bottom: dict[str, Any]) -> None:
    for key, value in top.items():
        if isinstance(value, dict) and isinstance(bottom.get(key), dict):
            _merge(value, bottom[key])
        else:
            bottom[key] = value


def _set(cfg: CfgNode, key: str, value: Any, place: str) -> None:
    """Set one key, which must exist, to a value of the default's type, ``~`` being the home."""
    node: Any = cfg
    *path, last = key.split(".")
    for part in path:
        node = node.get(part) if isinstance(node, CfgNode) else None
    if not isinstance(node, CfgNode) or last not in node:
        hint = nearest_of_many(key, [name for name, _ in flatten(cfg)])
        raise ConfigError(f"{place}unknown config key {key!r:.200} (value {value!r:.200}), {hint}")
    if isinstance(node[last], CfgNode):
        raise ConfigError(
            f"{place}{key}: wanted one of its keys ({', '.join(node[last])}), got {value!r:.200}"
        )
    value = _convert(value, node[last], f"{place}{key}")
    node[last] = os.path.expanduser(value) if isinstance(value, str) else value


def _convert(value: Any, default: Any, name: str) -> Any:
    """``value`` in the type of ``default``."""
    if isinstance(value, str):  # of a command line, or a tuple or 1e-4 in YAML
        literal = _parse(value)
        if not isinstance(default, str) or isinstance(literal, str):
            value = literal
    if default is None or type(value) is type(default):
        return value
    if isinstance(default, float) and isinstance(value, int) and not isinstance(value, bool):
        with suppress(OverflowError):
            return float(value)
    if isinstance(default, list | tuple) and isinstance(value, list | tuple):
        return type(default)(value)
    wanted = {
        bool: "True or False",
        int: "a whole number",
        float: "a number",
        str: "text",
        list: "a list",
        tuple: "a list",
    }[type(default)]
    raise ConfigError(f"{name}: wanted {wanted} (the default is {default!r}), got {value!r:.200}")


def _parse(text: str) -> Any:
    """A Python literal where the text is one, else the text itself."""
    try:
        literal = ast.literal_eval(text)
        repr(literal)  # which fails of endless numbers, and so would a sentence about them
        return literal
    except (ValueError, TypeError, SyntaxError, RecursionError, MemoryError):
        return text
