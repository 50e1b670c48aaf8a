"""Errors that tell what was wanted and what came, across processes too."""

from __future__ import annotations

import contextlib
import importlib
import pickle
import pkgutil
from collections.abc import Iterator

import pytest

import nasnet_det
from nasnet_det.config import ConfigError
from nasnet_det.errors import InputError, MissingPackageError, requires
from nasnet_det.genotype import GenotypeError


def _kinds() -> Iterator[type[InputError]]:
    for module in pkgutil.walk_packages(nasnet_det.__path__, "nasnet_det."):
        if module.name != "nasnet_det.__main__":
            with contextlib.suppress(ModuleNotFoundError):  # an extra
                importlib.import_module(module.name)
    found = [InputError]
    for kind in found:
        found += kind.__subclasses__()
        yield kind


def test_parts_and_sentence_survive_pickling_whatever_the_kind() -> None:
    kinds = [kind for kind in _kinds() if kind.__module__.startswith("nasnet_det")]
    assert len(kinds) > 15
    for kind in kinds:
        error = kind.__new__(kind, "a sentence")
        InputError.__init__(error, "a sentence", where="A.KEY", wanted=(1, 2), got=3, advice="x")
        again = pickle.loads(pickle.dumps(error))
        assert type(again) is kind
        assert str(again) == "a sentence"
        assert (again.where, again.wanted, again.got, again.advice) == ("A.KEY", (1, 2), 3, "x")
    faults = pickle.loads(pickle.dumps(GenotypeError("mine.json", ["one", "two"])))
    assert faults.faults == ["one", "two"]
    assert str(faults) == "mine.json is not a valid genotype: one; two"


def test_parts_are_empty_unless_given() -> None:
    error = ConfigError("no")
    assert isinstance(error, ValueError)
    assert (error.where, error.wanted, error.got, error.advice) == ("", None, None, "")


def test_a_missing_package_is_named_with_what_installs_it() -> None:
    with pytest.raises(MissingPackageError) as caught, requires("search"):
        importlib.import_module("no_such_library.inside")
    assert caught.value.where == "no_such_library"
    assert caught.value.advice == "pip install 'nasnet-det[search]'"
    assert str(caught.value).endswith(caught.value.advice)
    with pytest.raises(ModuleNotFoundError), requires("search"):
        importlib.import_module("nasnet_det.no_such_module")
