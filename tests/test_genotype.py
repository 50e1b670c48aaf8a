"""Genotypes: numbering, published cells, validation, JSON."""

from __future__ import annotations

import copy
import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
from random_genotypes import sample_genotype

from nasnet_det.genotype import (
    OPERATION_NAMES,
    Block,
    CellSpec,
    Genotype,
    GenotypeError,
    loose_ends,
)
from nasnet_det.published_cells import GENOTYPES, load_genotype

# TF-slim's flat form of the published cells: operations, the states that they read, and a flag
# for each state that is 0 where the state is part of the output. State 0 is the current input.
SLIM_CELLS = {
    ("nasnet_a", "normal"): (
        "sep5 sep3 sep5 sep3 avg3 none avg3 avg3 sep3 none",
        (0, 1, 1, 1, 0, 1, 1, 1, 0, 0),
        (1, 0, 0, 0, 0, 0, 0),
    ),
    ("nasnet_a", "reduction"): (
        "sep5 sep7 max3 sep7 avg3 sep5 none avg3 sep3 max3",
        (0, 1, 0, 1, 0, 1, 3, 2, 2, 0),
        (1, 1, 1, 0, 0, 0, 0),
    ),
    ("pnasnet_5", "normal"): (
        "sep5 max3 sep7 max3 sep5 sep3 sep3 max3 sep3 none",
        (1, 1, 0, 0, 0, 0, 4, 0, 1, 0),
        (1, 1, 0, 0, 0, 0, 0),
    ),
}
SLIM_OPS = {
    "sep3": "sep_conv_3x3",
    "sep5": "sep_conv_5x5",
    "sep7": "sep_conv_7x7",
    "avg3": "avg_pool_3x3",
    "max3": "max_pool_3x3",
    "none": "identity",
}

# DARTS' list of AmoebaNet-A, which numbers the two inputs the other way round.
DARTS_AMOEBANET = {
    "normal": (
        (
            "avg_pool_3x3 0 max_pool_3x3 1 sep_conv_3x3 0 sep_conv_5x5 2 sep_conv_3x3 0 "
            "avg_pool_3x3 3 sep_conv_3x3 1 identity 1 identity 0 avg_pool_3x3 1"
        ),
        (4, 5, 6),
    ),
    "reduction": (
        (
            "avg_pool_3x3 0 sep_conv_3x3 1 max_pool_3x3 0 sep_conv_7x7 2 sep_conv_7x7 0 "
            "avg_pool_3x3 1 max_pool_3x3 0 max_pool_3x3 1 conv_1x7_7x1 0 sep_conv_3x3 5"
        ),
        (3, 4, 6),
    ),
}


@pytest.mark.parametrize(("name", "kind"), SLIM_CELLS)
def test_published_cell_equals_tf_slims_flat_lists(name: str, kind: str) -> None:
    ops, states, used = SLIM_CELLS[name, kind]
    cell: CellSpec = getattr(GENOTYPES[name], kind)
    assert [op for b in cell.blocks for op in b.ops] == [SLIM_OPS[op] for op in ops.split()]
    assert [i for b in cell.blocks for i in b.inputs] == list(states)
    assert cell.concat == tuple(i for i, flag in enumerate(used) if not flag)
    assert {b.combine for b in cell.blocks} == {"add"}


def test_pnasnet_has_one_cell_for_both_strides() -> None:
    assert GENOTYPES["pnasnet_5"].normal == GENOTYPES["pnasnet_5"].reduction


@pytest.mark.parametrize("kind", DARTS_AMOEBANET)
def test_amoebanet_equals_darts_list_with_its_inputs_swapped(kind: str) -> None:
    words, concat = DARTS_AMOEBANET[kind]
    pairs = words.split()
    swap = {0: 1, 1: 0}
    wanted = [(op, swap.get(int(i), int(i))) for op, i in zip(pairs[::2], pairs[1::2], strict=True)]
    cell: CellSpec = getattr(GENOTYPES["amoebanet_a"], kind)
    found = [pair for b in cell.blocks for pair in zip(b.ops, b.inputs, strict=True)]
    assert found == wanted
    assert cell.concat == concat == loose_ends(cell.blocks)


def test_space_has_the_papers_13_operations() -> None:
    families = {"identity": 1, "conv_": 4, "dil_conv_": 1, "avg_pool_": 1, "max_pool_": 3}
    families["sep_conv_"] = 3
    found = {f: sum(op.startswith(f) for op in OPERATION_NAMES) for f in families}
    assert found == families
    assert len(set(OPERATION_NAMES)) == 13


@pytest.mark.parametrize("name", sorted(GENOTYPES))
def test_published_genotypes_are_valid_and_found_by_name(name: str) -> None:
    assert load_genotype(name).validate() is GENOTYPES[name]


def test_loose_ends_are_the_states_that_no_block_reads() -> None:
    read_h_only = Block((0, 0), ("identity", "conv_1x1"))
    assert loose_ends([read_h_only]) == (1, 2)
    assert loose_ends([read_h_only, Block((2, 1), ("identity", "identity"))]) == (3,)
    for seed in range(50):
        cell = sample_genotype(4 * seed + 1).normal
        read = {i for block in cell.blocks for i in block.inputs}
        assert read.isdisjoint(cell.concat)
        assert read | set(cell.concat) == set(range(7))
        assert list(cell.concat) == sorted(cell.concat)


def test_genotypes_are_values(tmp_path: Path) -> None:
    genotype = GENOTYPES["nasnet_a"]
    with pytest.raises(dataclasses.FrozenInstanceError):
        genotype.name = "other"  # type: ignore[misc]
    with pytest.raises(dataclasses.FrozenInstanceError):
        genotype.normal.blocks[0].combine = "concat"  # type: ignore[misc]
    elsewhere = dataclasses.replace(genotype, provenance={"source": "a copy"})
    assert elsewhere == genotype, "the origin is not part of the architecture"
    assert len({elsewhere, genotype}) == 1
    assert dataclasses.replace(genotype, reduction=genotype.normal) != genotype


@pytest.mark.parametrize("seed", range(12))
def test_json_round_trip_keeps_everything(seed: int, tmp_path: Path) -> None:
    genotype = dataclasses.replace(sample_genotype(seed), name="größe & 形")
    path = tmp_path / "genotype.json"
    genotype.save(path)
    loaded = load_genotype(path)
    assert loaded == genotype
    assert loaded.provenance == genotype.provenance == {"seed": seed}
    assert [p.name for p in tmp_path.iterdir()] == ["genotype.json"], "no partial file is left"
    assert Genotype.from_dict(json.loads(json.dumps(genotype.to_dict()))) == genotype


def test_failed_save_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "genotype.json"
    GENOTYPES["nasnet_a"].save(path)
    unwritable = dataclasses.replace(GENOTYPES["nasnet_a"], provenance={"when": object()})
    with pytest.raises(TypeError, match="not JSON serializable"):
        unwritable.save(path)
    assert load_genotype(path) == GENOTYPES["nasnet_a"]


def _nasnet_a() -> dict[str, Any]:
    return copy.deepcopy(GENOTYPES["nasnet_a"].to_dict())


def _set(place: str, value: Any) -> dict[str, Any]:
    """NASNet-A's JSON form with one value replaced: ``normal.blocks.2.ops.0``."""
    data = _nasnet_a()
    *path, last = [int(key) if key.isdigit() else key for key in place.split(".")]
    target: Any = data
    for key in path:
        target = target[key]
    target[last] = value
    return data


NOT_READ = "is neither read by a later block nor in concat"
BROKEN = {
    "input ahead": (
        _set("normal.blocks.0.inputs.1", 2),
        "normal.blocks[0].inputs[1]: wanted a state from 0 to 1, got 2",
    ),
    "input of itself": (
        _set("reduction.blocks.3.inputs.0", 5),
        "reduction.blocks[3].inputs[0]: wanted a state from 0 to 4, got 5",
    ),
    "negative input": (
        _set("normal.blocks.4.inputs.0", -1),
        "normal.blocks[4].inputs[0]: wanted a state from 0 to 5, got -1",
    ),
    "unknown operation": (
        _set("normal.blocks.1.ops.0", "sep_conv_5"),
        (
            "normal.blocks[1].ops[0]: unknown operation 'sep_conv_5', did you mean 'sep_conv_5x5'? "
            "(valid: avg_pool_3x3, conv_1x1, "
        ),
    ),
    "operation like no other": (
        _set("normal.blocks.1.ops.1", "zzz"),
        "normal.blocks[1].ops[1]: unknown operation 'zzz', valid: avg_pool_3x3, ",
    ),
    "unknown combiner": (
        _set("reduction.blocks.2.combine", "ad"),
        (
            "reduction.blocks[2].combine: unknown combiner 'ad', did you mean 'add'? "
            "(valid: add, concat)"
        ),
    ),
    "combiner of a wrong type": (
        _set("normal.blocks.2.combine", ["add"]),
        "normal.blocks[2].combine: unknown combiner ['add'], did you mean 'add'?",
    ),
    "nothing in the output": (
        _set("normal.concat", []),
        "normal.concat: wanted at least one state, got none",
    ),
    "state twice in the output": (
        _set("reduction.concat", [3, 4, 4, 5, 6]),
        "reduction.concat: a state is listed twice in [3, 4, 4, 5, 6]",
    ),
    "output of no block": (
        _set("normal.concat", [1, 2, 3, 4, 5, 6, 7]),
        "normal.concat: wanted states from 0 to 6, got 7",
    ),
    "lost block": (
        _set("reduction.concat", [3, 5, 6]),
        f"reduction.blocks[2]: its output, state 4, {NOT_READ}",
    ),
    "no blocks": (
        _set("normal.blocks", []),
        "normal.blocks: wanted at least one block, got none",
    ),
    "blocks missing": (
        _set("normal", {"concat": [0]}),
        "normal: wanted an object with 'blocks' and 'concat', got {'concat': [0]}",
    ),
    "cell of a wrong type": (
        _set("reduction", 7),
        "reduction: wanted an object with 'blocks' and 'concat', got 7",
    ),
    "block of a wrong type": (
        _set("normal.blocks.2", "identity"),
        "normal.blocks[2]: wanted an object, got 'identity'",
    ),
    "three inputs": (
        _set("normal.blocks.2.inputs", [0, 1, 0]),
        "normal.blocks[2].inputs: wanted two whole numbers, got [0, 1, 0]",
    ),
    "input that is no number": (
        _set("normal.blocks.2.inputs", [0, True]),
        "normal.blocks[2].inputs: wanted two whole numbers, got [0, True]",
    ),
    "one operation": (
        _set("normal.blocks.2.ops", ["identity"]),
        "normal.blocks[2].ops: wanted two operation names, got ['identity']",
    ),
    "output of a wrong type": (
        _set("normal.concat", "123456"),
        "normal.concat: wanted a list of whole numbers, got '123456'",
    ),
    "name of a wrong type": (_set("name", 3), "name: wanted a string, got 3"),
    "provenance of a wrong type": (
        _set("provenance", "here"),
        "provenance: wanted an object, got 'here'",
    ),
    "unknown key": (_set("cells", {}), "unknown key 'cells'"),
    "unknown key of a cell": (_set("normal.strides", 2), "normal: unknown key 'strides'"),
    "unknown key of a block": (
        _set("reduction.blocks.4.op", "identity"),
        "reduction.blocks[4]: unknown key 'op'",
    ),
}


@pytest.mark.parametrize("what", BROKEN)
def test_each_fault_is_named_with_its_place(what: str, tmp_path: Path) -> None:
    data, wanted = BROKEN[what]
    path = tmp_path / "broken.json"
    path.write_text(json.dumps(data))
    with pytest.raises(GenotypeError) as caught:
        load_genotype(path)
    assert any(fault.startswith(wanted) for fault in caught.value.faults), caught.value.faults
    assert str(caught.value).startswith(f"file '{path}' is not a valid genotype: ")
    assert wanted in str(caught.value)


def test_single_faults_are_reported_alone() -> None:
    """A fault does not drag others along (those which take away a state's reader do)."""
    for what in ("unknown operation", "unknown combiner", "state twice in the output",
                 "lost block", "three inputs", "unknown key", "name of a wrong type"):  # fmt: skip
        data, _ = BROKEN[what]
        with pytest.raises(GenotypeError) as caught:
            Genotype.from_dict(data)
        if what != "three inputs":  # dropping that block renumbers what follows
            assert len(caught.value.faults) == 1, (what, caught.value.faults)


def test_all_faults_are_reported_at_once() -> None:
    data = _nasnet_a()
    data["normal"]["blocks"][0]["ops"][1] = "sep_conv"
    data["normal"]["blocks"][3]["combine"] = "mean"
    data["reduction"]["blocks"][1]["inputs"] = [9, 0]
    data["reduction"]["concat"] = [3, 4, 5, 6, 6]
    with pytest.raises(GenotypeError) as caught:
        Genotype.from_dict(data, source="the study's best trial")
    places = [fault.split(":")[0] for fault in caught.value.faults]
    assert places == [
        "normal.blocks[0].ops[1]",
        "normal.blocks[3].combine",
        "reduction.blocks[1].inputs[0]",
        "reduction.concat",
    ]
    assert str(caught.value).count("; ") == 3
    assert str(caught.value).startswith("the study's best trial is not a valid genotype: ")


def test_faults_of_form_and_of_rules_are_reported_together() -> None:
    data = _set("normal.blocks.1.ops.0", "sep_conv_9x9")
    data["extra"] = 1
    with pytest.raises(GenotypeError) as caught:
        Genotype.from_dict(data)
    assert [fault.split(",")[0] for fault in caught.value.faults] == [
        "unknown key 'extra'",
        "normal.blocks[1].ops[0]: unknown operation 'sep_conv_9x9'",
    ]


def test_unread_h_is_a_fault_but_unread_h_prev_is_not() -> None:
    only_h_prev = CellSpec((Block((1, 1), ("identity", "conv_1x1")),), (2,))
    only_h = CellSpec((Block((0, 0), ("identity", "conv_1x1")),), (2,))
    with pytest.raises(GenotypeError) as caught:
        Genotype(only_h_prev, only_h, name="blind").validate()
    assert caught.value.faults == ["normal: state 0 (h) is neither read by a block nor in concat"]
    assert str(caught.value).startswith("genotype 'blind' is not a valid genotype: ")
    assert Genotype(only_h, only_h).validate() is not None


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("{", "it is not JSON (Expecting property name"),
        ("", "it is not JSON (Expecting value"),
        ("[1, 2]", "wanted a JSON object, got list"),
        ("null", "wanted a JSON object, got NoneType"),
    ],
)
def test_file_that_is_no_genotype_is_named(text: str, wanted: str, tmp_path: Path) -> None:
    path = tmp_path / "g.json"
    path.write_text(text)
    with pytest.raises(GenotypeError) as caught:
        load_genotype(path)
    assert str(caught.value).startswith(f"file '{path}' is not a valid genotype: {wanted}")


def test_binary_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "model.pth"
    path.write_bytes(b"PK\x03\x04\xff\xfe\x80")
    with pytest.raises(GenotypeError, match=r"model\.pth' is not a valid genotype: it is not JSON"):
        load_genotype(path)


def test_unknown_genotype_names_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no genotype 'nasnet_b': it is neither a file nor a "
                       "published cell, did you mean 'nasnet_a'"):  # fmt: skip
        load_genotype("nasnet_b")
    with pytest.raises(ValueError, match="it is neither a file"):
        load_genotype(tmp_path)
