"""Downloads of published files: whole and verified under their name, or not there at all.

A download that was cut off goes on where it was, in this process or in the next one. Proxies are
those of the environment (``https_proxy``, ``no_proxy``). With ``NASNET_DET_OFFLINE=1`` nothing is
downloaded.
"""

from __future__ import annotations

import hashlib
import http.client
import logging
import os
import shutil
import urllib.error
import urllib.request
from pathlib import Path

from tqdm import tqdm

from nasnet_det.runs.files import PARTIAL
from nasnet_det.version import __version__
from nasnet_det.weights.error import WeightsError

NUM_TRIES = 4  # in a row that bring nothing
_BROKEN_OFF = (
    *(urllib.error.URLError, http.client.HTTPException),
    *(ConnectionError, TimeoutError),
)
_BLOCK = 1 << 18
_TIMEOUT_S = 30

logger = logging.getLogger(__name__)


class DownloadError(WeightsError):
    """A file that can't be had from its address; the message says why, without the address."""


def download(url: str, path: Path, *, digest: str) -> None:
    """Download a file.

    Args:
        url: ``http://`` or ``https://``.
        path: gets the file; its folder is made.
        digest: ``sha256:`` or ``md5:`` and the (beginning of the) hexadecimal hash.

    Raises:
        DownloadError: the address can't be reached, the disk is full, or the file is another one.
    """
    if os.environ.get("NASNET_DET_OFFLINE", "0") not in ("", "0"):
        raise DownloadError("NASNET_DET_OFFLINE is set")
    partial = Path(f"{path}{PARTIAL}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        was_begun = _get_size(partial) > 0
        _fetch_in_tries(url, partial)
        fault = _find_fault(partial, digest)
        if fault and was_begun:  # what was there before may have been of another file
            partial.unlink()
            _fetch_in_tries(url, partial)
            fault = _find_fault(partial, digest)
        if fault:
            partial.unlink()
            raise DownloadError(fault)
        os.replace(partial, path)
    except OSError as error:  # URLError and timeouts were taken in the tries
        raise DownloadError(f"{partial} can't be written: {error.strerror or error}") from None


def _fetch_in_tries(url: str, partial: Path) -> None:
    """Fill a file, from its end on; whoever breaks off is asked again."""
    num_failed = 0
    while True:
        had = _get_size(partial)
        try:
            _fetch(url, partial)
            return
        except _BROKEN_OFF as error:
            if isinstance(error, urllib.error.HTTPError) and error.code < 500:
                raise DownloadError(f"HTTP status {error.code}, {error.reason}") from None
            reason = " ".join(str(getattr(error, "reason", error)).split()) or type(error).__name__
        num_failed = 0 if _get_size(partial) > had else num_failed + 1
        if num_failed == NUM_TRIES or (not had and not _get_size(partial)):
            kept = f"; {_get_size(partial):,} bytes are kept for the next try"
            raise DownloadError(f"{reason}{kept if _get_size(partial) else ''}")


def _fetch(url: str, partial: Path) -> None:
    """Ask once for what is missing.

    Raises:
        URLError, HTTPException, ConnectionError, TimeoutError: the connection broke off.
    """
    had = _get_size(partial)
    headers = {"User-Agent": f"nasnet-det/{__version__}", "Accept-Encoding": "identity"}
    if had:
        headers["Range"] = f"bytes={had}-"
    request = urllib.request.Request(url, headers=headers)
    try:
        # An opener of its own, as urlopen's keeps the proxies of its first use.
        response = urllib.request.build_opener().open(request, timeout=_TIMEOUT_S)
    except urllib.error.HTTPError as error:
        if error.code != 416 or not had:
            raise
        return  # there is nothing behind what is there: the hash tells whether it is the file
    with response:
        goes_on = response.status == 206
        left = int(response.headers.get("Content-Length") or 0)
        _check_space(partial, left)
        start = had if goes_on else 0
        logger.info("Downloading %s (%.1f MB), from byte %d on", url, (start + left) / 1e6, start)
        with (
            open(partial, "ab" if goes_on else "wb") as file,
            tqdm(  # only where a person looks
                total=start + left, initial=start, unit="B", unit_scale=True, disable=None
            ) as bar,
        ):
            got = 0
            while block := response.read(_BLOCK):
                file.write(block)
                bar.update(len(block))
                got += len(block)
    if got < left:
        raise ConnectionError(f"the connection broke off after {start + got:,} bytes")


def _check_space(partial: Path, wanted: int) -> None:
    free = shutil.disk_usage(partial.parent).free
    if wanted > free:
        raise DownloadError(
            f"{partial.parent} has {free / 1e6:.0f} MB of space and {wanted / 1e6:.0f} MB are "
            "missing; NASNET_DET_CACHE names another folder"
        )


def _find_fault(partial: Path, digest: str) -> str:
    """What is wrong with the hash of a file, or ""."""
    kind, _, wanted = digest.partition(":")
    hasher = hashlib.new(kind, usedforsecurity=False)
    with open(partial, "rb") as file:
        while block := file.read(_BLOCK):
            hasher.update(block)
    got = hasher.hexdigest()[: len(wanted)]
    if got == wanted:
        return ""
    return f"what came is another file: its {kind.upper()} is {got}, wanted {wanted}"


def _get_size(path: Path) -> int:
    return path.stat().st_size if path.is_file() else 0
