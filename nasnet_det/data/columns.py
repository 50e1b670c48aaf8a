"""Records of a JSON, checked and taken apart column by column; the first fault is one sentence."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Any

from nasnet_det.data.error import DataError

NUM_EXAMPLES = 3

Record = dict[str, Any]


def read_records(where: str, data: Record, key: str) -> list[Record]:
    """The list of objects at ``key`` of the JSON.

    Raises:
        DataError: there is none.
    """
    records = data.get(key)
    if not isinstance(records, list):
        got = f"got {records!r:.60}" if key in data else f"got only {', '.join(data) or 'nothing'}"
        reason = " (to train and to evaluate with)" if key == "annotations" else ""
        raise DataError(f"{where}: wanted a list {key!r}{reason}, {got:.200}")
    raise_first_fault(where, key, records, records, lambda r: isinstance(r, dict), "an object")
    return records


def raise_first_fault(
    where: str,
    place: str,
    records: Sequence[Any],
    values: Sequence[Any],
    is_right: Callable[[Any], bool],
    wanted: str,
) -> None:
    """Raise where a value is wrong, naming how many are and the first one's record.

    Raises:
        DataError: one is.
    """
    wrong = [i for i, value in enumerate(values) if not is_right(value)]
    if wrong:
        record, value = records[wrong[0]], values[wrong[0]]
        known = isinstance(record, dict) and type(record.get("id")) in (int, str)
        which = f"id {record['id']!r}" if known else f"number {wrong[0] + 1} of the list"
        got = "nothing" if value is None else f"{value!r:.60}"
        raise DataError(
            f"{where}: {place}: wanted {wanted}, but {len(wrong)} of {len(values)} differ, the "
            f"first ({which}) has {got}",
            where=place,
            records=[records[i] for i in wrong],
        )


def read_column(
    where: str,
    kind: str,
    records: Sequence[Record],
    key: str,
    types: Collection[type],
    wanted: str,
) -> list[Any]:
    """The values of one key, which each record must have, and in one of the types.

    Where whole numbers are wanted, 1.0 is one, as tables write it.

    Raises:
        DataError: a record has another.
    """
    values = [record.get(key) for record in records]
    if int in types and float in set(map(type, values)):
        values = [int(v) if type(v) is float and v.is_integer() else v for v in values]
    if not set(map(type, values)) <= set(types):  # fast where all is well, bool is no int
        raise_first_fault(
            where, f"{kind}.{key}", records, values, lambda v: type(v) in types, wanted
        )
    return values


def read_ids(where: str, kind: str, records: Sequence[Record]) -> list[Any]:
    """The ids of records, numbers or texts; each must be there once.

    Raises:
        DataError: one is missing, or there twice.
    """
    ids = read_column(where, kind, records, "id", {int, str}, "a whole number or a text")
    if len(set(map(type, ids))) > 1:
        texts = [record for record, key in zip(records, ids, strict=True) if type(key) is str]
        raise DataError(
            f"{where}: {kind}.id: wanted all numbers or all texts, got both",
            where=f"{kind}.id",
            records=texts,
        )
    raise_first_fault(where, f"{kind}.id", records, ids, _fits_evaluation, "a number of 64 bits")
    # COCO's own 2014 minival files repeat annotations; Detectron2 reads them all the same.
    if len(set(ids)) < len(ids) and not (kind == "annotations" and "minival" in where):
        repeated = [key for key, count in Counter(ids).items() if count > 1]
        raise DataError(
            f"{where}: {kind}.id: wanted each id once, but {len(repeated)} of {len(ids)} come more "
            f"than once: {shorten(repeated)}",
            where=f"{kind}.id",
            records=_list_later(records, ids),
        )
    return ids


def _list_later(records: Sequence[Record], ids: Sequence[Any]) -> list[Record]:
    """The records whose id an earlier one has."""
    first = {key: place for place, key in reversed(list(enumerate(ids)))}
    return [record for i, record in enumerate(records) if first[ids[i]] != i]


def _fits_evaluation(key: int | str) -> bool:
    """Whether COCO's evaluation, which is compiled, can hold an id."""
    return isinstance(key, str) or -(2**63) <= key < 2**63


def choose_records(records: Sequence[Record], chosen: Iterable[bool]) -> list[Record]:
    """The records that are chosen, one truth value each."""
    return list(itertools.compress(records, chosen))


def shorten(values: Sequence[Any]) -> str:
    """The first few of many values."""
    shown = ", ".join(f"{value!r:.100}" for value in values[:NUM_EXAMPLES])
    return shown + (", ..." if len(values) > NUM_EXAMPLES else "")


def is_number(value: Any) -> bool:
    """Whether a value of the JSON is a number that a float can hold; NaN and infinity are."""
    if type(value) is int:
        return abs(value) < 2**1000
    return type(value) is float
