"""A JSON file as it lies there: plain or gzipped, UTF-8 with or without a mark, UTF-16."""

from __future__ import annotations

import gc
import gzip
import hashlib
import io
import json
import os
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from nasnet_det.data.error import DataError

_GZIP = b"\x1f\x8b"
# A gzipped file is read as far as it is plausible: texts shrink to a twentieth, not to nothing.
MAX_GROWTH = 200
MIN_LIMIT = 2**30  # bytes, which are read in any case


def read_json(path: str | os.PathLike[str]) -> tuple[Any, str]:
    """The content of a JSON file, and the SHA-256 of its bytes.

    Raises:
        DataError: it can't be read, or holds no whole JSON.
    """
    where = os.fspath(path)
    try:
        content = Path(path).read_bytes()
    except OSError as error:
        raise DataError(f"{where}: can't be read: {error.strerror}") from None
    digest = hashlib.sha256(content).hexdigest()
    try:
        if content.startswith(_GZIP):
            limit = max(MIN_LIMIT, MAX_GROWTH * len(content))
            with gzip.GzipFile(fileobj=io.BytesIO(content)) as file:
                content = file.read(limit + 1)
            if len(content) > limit:
                raise DataError(f"{where}: the gzipped file holds more than {limit:,} bytes")
        text = content.decode(json.detect_encoding(content))
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{where}: the gzipped file is broken: {error}") from None
    except UnicodeDecodeError as error:
        raise DataError(
            f"{where}: the file is not valid JSON: wanted text in UTF-8, got bytes that "
            f"{error.encoding} can't decode ({error.reason})"
        ) from None
    with _without_collector():
        return _parse(where, text), digest


def _parse(where: str, text: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        if not text[error.pos :].strip() or "Unterminated" in error.msg:
            fault = f"ends too early, after {len(text):,} characters: copy or download it again"
        else:
            fault = f"is not valid JSON: {error.msg} in line {error.lineno}, column {error.colno}"
        raise DataError(f"{where}: the file {fault}") from None
    except (ValueError, RecursionError) as error:  # absurd numbers, absurd depth
        raise DataError(f"{where}: the file is not valid JSON: {error}") from None


@contextmanager
def _without_collector() -> Iterator[None]:
    """A parse makes millions of objects and no garbage: twice as fast for all of COCO."""
    collects = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collects:
            gc.enable()
