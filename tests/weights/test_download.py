"""Downloads from a server on this machine: whole, cut off, another file, no space, a proxy."""

from __future__ import annotations

import dataclasses
import hashlib
import re
import shutil
import threading
from collections import namedtuple
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import torch

from nasnet_det.runs.files import PARTIAL
from nasnet_det.weights import WeightsError, fetch_published
from nasnet_det.weights import download as download_module
from nasnet_det.weights import published as published_module
from nasnet_det.weights.classifier import ConvertedWeights
from nasnet_det.weights.download import DownloadError, download
from nasnet_det.weights.published import PUBLISHED

CONTENT = bytes(range(256)) * 4000  # 1 MB
DIGEST = f"sha256:{hashlib.sha256(CONTENT).hexdigest()}"


class Server(ThreadingHTTPServer):
    """It serves one content under every path, and can misbehave.

    Attributes:
        cuts: after how many bytes the next answers break off.
        ranges: of each request.
        paths: of each request; whole addresses where the server is asked as a proxy.
    """

    content = CONTENT
    knows_ranges = True
    status = 200

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.cuts: list[int] = []
        self.ranges: list[str | None] = []
        self.paths: list[str] = []
        self.url = f"http://127.0.0.1:{self.server_port}/file.pth"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        server, wanted = self.server, self.headers.get("Range")
        server.ranges.append(wanted)
        server.paths.append(self.path)
        start = 0
        if server.status != 200:
            self.send_error(server.status)
            return
        if wanted and server.knows_ranges:
            start = int(re.fullmatch(r"bytes=(\d+)-", wanted)[1])  # type: ignore[index]
        if start >= len(server.content):
            self.send_error(416)
            return
        body = server.content[start:]
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body[: server.cuts.pop(0)] if server.cuts else body)

    def log_message(self, *_: Any) -> None:
        """Nothing."""


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NASNET_DET_OFFLINE", "0")
    with Server() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def test_file_comes_whole(server: Server, tmp_path: Path) -> None:
    path = tmp_path / "cache" / "file.pth"
    download(server.url, path, digest=DIGEST)
    assert path.read_bytes() == CONTENT
    assert [p.name for p in path.parent.iterdir()] == [path.name], "nothing else is left"
    assert server.ranges == [None]
    md5 = hashlib.md5(CONTENT, usedforsecurity=False).hexdigest()
    for digest in (DIGEST[: len("sha256:") + 8], f"md5:{md5}"):
        path.unlink()
        download(server.url, path, digest=digest)
        assert path.read_bytes() == CONTENT


def test_what_was_cut_off_goes_on(server: Server, tmp_path: Path) -> None:
    server.cuts = [300_000, 500_000]
    download(server.url, tmp_path / "a", digest=DIGEST)
    assert (tmp_path / "a").read_bytes() == CONTENT
    assert server.ranges == [None, "bytes=300000-", "bytes=800000-"]


def test_another_process_goes_on_where_one_was_killed(server: Server, tmp_path: Path) -> None:
    partial = tmp_path / f"a{PARTIAL}"
    partial.write_bytes(CONTENT[:700_000])
    download(server.url, tmp_path / "a", digest=DIGEST)
    assert server.ranges == ["bytes=700000-"]
    partial.write_bytes(CONTENT)  # killed before it got its name
    download(server.url, tmp_path / "b", digest=DIGEST)
    partial.write_bytes(b"of another file" * 9)
    download(server.url, tmp_path / "a", digest=DIGEST)
    server.knows_ranges = False
    partial.write_bytes(CONTENT[:700_000])
    download(server.url, tmp_path / "a", digest=DIGEST)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes() == CONTENT


def test_server_that_gives_up_keeps_what_came(server: Server, tmp_path: Path) -> None:
    server.cuts = [1000, 0, 0, 0, 0, 0]
    with pytest.raises(DownloadError, match=r"1,000 bytes; 1,000 bytes are kept for the next try"):
        download(server.url, tmp_path / "a", digest=DIGEST)
    assert len(server.ranges) == 1 + download_module.NUM_TRIES
    server.cuts = []
    download(server.url, tmp_path / "a", digest=DIGEST)
    assert (tmp_path / "a").read_bytes() == CONTENT


def test_another_file_is_not_kept(server: Server, tmp_path: Path) -> None:
    server.content = b"<html>Please log in</html>"
    with pytest.raises(DownloadError, match=r"another file: its SHA256 is \w{64}, wanted \w{64}$"):
        download(server.url, tmp_path / "a", digest=DIGEST)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("status", [404, 503])
def test_status_is_told(status: int, server: Server, tmp_path: Path) -> None:
    server.status = status
    with pytest.raises(DownloadError, match="Not Found|Service Unavailable"):
        download(server.url, tmp_path / "a", digest=DIGEST)
    assert len(server.ranges) == 1


def test_no_space_is_told_before_anything_is_written(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = namedtuple("usage", "free")(400_000)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    with pytest.raises(DownloadError, match=r"has 0 MB of space and 1 MB are missing"):
        download(server.url, tmp_path / "a", digest=DIGEST)
    assert not list(tmp_path.iterdir())


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full")
def test_disk_that_fills_up_is_one_sentence(server: Server, tmp_path: Path) -> None:
    (tmp_path / f"a{PARTIAL}").symlink_to("/dev/full")
    with pytest.raises(DownloadError, match="can't be written: No space left on device"):
        download(server.url, tmp_path / "a", digest=DIGEST)


def test_proxy_of_the_environment_is_asked(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{server.server_port}")
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)
    url = "http://weights.invalid/file.pth"
    download(url, tmp_path / "a", digest=DIGEST)
    assert server.paths == [url]


def test_offline_nothing_is_asked(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NASNET_DET_OFFLINE", "1")
    with pytest.raises(DownloadError, match="NASNET_DET_OFFLINE is set"):
        download(server.url, tmp_path / "a", digest=DIGEST)
    assert not server.ranges


def test_published_name_brings_its_file_once(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = "nasnet_a_mobile.keras"
    monkeypatch.setenv("NASNET_DET_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "keras"))
    entry = dataclasses.replace(PUBLISHED[name], url=server.url, digest=DIGEST)
    monkeypatch.setitem(PUBLISHED, name, entry)
    taken = []

    def take(path: str, **_: str) -> ConvertedWeights:
        taken.append(Path(path).read_bytes())
        return ConvertedWeights({"w": torch.zeros(1)}, {"num_classes": 1000})

    monkeypatch.setattr(published_module, "convert_file", take)
    assert fetch_published(f"nasnet://{name}") == fetch_published(f"nasnet://{name}")
    assert taken == [CONTENT]
    assert len(server.ranges) == 1
    (tmp_path / "cache" / "NASNet-mobile.h5").unlink()
    server.content = b"another"
    with pytest.raises(WeightsError) as info:
        fetch_published(f"nasnet://{name}")
    for part in ("is not downloaded (what came is another file", server.url, "put it there under"):
        assert part in str(info.value)
