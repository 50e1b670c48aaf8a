"""The error of data that can't be used."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from nasnet_det.errors import InputError


class DataError(InputError):
    """Data that are missing or not what they should be.

    The message says where, what was wanted, what came and what to do.

    Attributes:
        records: the entries of a JSON that are at fault; empty where they aren't known.
    """

    def __init__(self, message: str, *, where: str = "", records: Sequence[Any] = ()) -> None:
        if message.startswith("Caught ") and "Traceback" in message:
            # A DataLoader raises a worker's error anew, with all of its traceback as the message.
            message = message.strip().splitlines()[-1].partition("Error: ")[2]
        super().__init__(message, where=where)
        self.records = tuple(records)
