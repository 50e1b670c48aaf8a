"""Videos: frames, times and turns come back, and what is no video is one sentence."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from nasnet_det.data.error import DataError
from nasnet_det.data.video import VideoWriter, is_video, read_comment, read_video
from nasnet_det.errors import MissingPackageError
from nasnet_det.runs.files import PARTIAL

av = pytest.importorskip("av")


def _picture(number: int, height: int = 48, width: int = 64) -> np.ndarray:
    """Dark, with a bright upper left quarter; even colours survive the codec."""
    pixels = np.full((height, width, 3), 20 * number, dtype=np.uint8)
    pixels[: height // 2, : width // 2] = 250
    return pixels


def _write(path: Path, number: int = 5, **size: int) -> Path:
    writer = VideoWriter(path, comment="of a test")
    for i in range(number):
        writer.write(_picture(i, **size), i / 10)
    writer.close()
    return path


def test_frames_and_times_come_back(tmp_path: Path) -> None:
    path = _write(tmp_path / "a.mp4")
    frames = list(read_video(path))
    assert [frame.number for frame in frames] == [0, 1, 2, 3, 4]
    assert [frame.time_s for frame in frames] == pytest.approx([0, 0.1, 0.2, 0.3, 0.4], abs=1e-3)
    for i, frame in enumerate(frames):
        assert np.abs(frame.pixels.astype(int) - _picture(i)).mean() < 8
    assert read_comment(path) == "of a test"
    assert not list(tmp_path.glob(f"*{PARTIAL}"))


def test_odd_sizes_are_padded(tmp_path: Path) -> None:
    (frame, *_) = read_video(_write(tmp_path / "a.mp4", height=47, width=63))
    assert frame.pixels.shape == (48, 64, 3)


def test_video_of_a_turned_phone_is_upright(tmp_path: Path) -> None:
    path = tmp_path / "phone.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=Fraction(25))
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        stream.set_display_rotation(90)
        for packet in [
            *stream.encode(av.VideoFrame.from_ndarray(_picture(1), format="rgb24")),
            *stream.encode(),
        ]:
            container.mux(packet)
    (frame,) = read_video(path)
    assert np.abs(frame.pixels.astype(int) - np.rot90(_picture(1))).mean() < 8


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"", "can't be read as a video"),
        (b"\0\0\0\x20ftypisom" + bytes(5000), "can't be read as a video"),
        (b"#EXTM3U\n#EXTINF:10,\n/etc/hostname\n#EXT-X-ENDLIST\n", "can't be read as a video"),
        (b"ffconcat version 1.0\nfile /etc/hostname\n", "can't be read as a video"),
    ],
)
def test_what_is_no_video_is_one_sentence(tmp_path: Path, content: bytes, sentence: str) -> None:
    path = tmp_path / "clip.mp4"
    path.write_bytes(content)
    with pytest.raises(DataError, match=sentence):
        list(read_video(path))
    with pytest.raises(DataError, match="No such file"):
        list(read_video(tmp_path / "none.mp4"))
    assert read_comment(path) == ""


def test_playlist_opens_no_other_file(tmp_path: Path) -> None:
    """Neither a playlist nor a list of files leads to the video beside it."""
    video = _write(tmp_path / "secret.mp4")
    for content in (f"ffconcat version 1.0\nfile {video}\n", f"#EXTM3U\n#EXTINF:1,\n{video}\n"):
        (tmp_path / "clip.mp4").write_text(content)
        with pytest.raises(DataError):
            list(read_video(tmp_path / "clip.mp4"))


def test_broken_video_gives_the_frames_before_it_breaks(tmp_path: Path) -> None:
    path = tmp_path / "a.mkv"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for i in range(60):
            frame = av.VideoFrame.from_ndarray(_picture(i % 12), format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    assert 10 < len(list(read_video(path))) < 60


def test_frame_of_another_size_is_refused(tmp_path: Path) -> None:
    writer = VideoWriter(tmp_path / "a.mp4")
    writer.write(_picture(0), 0)
    with pytest.raises(DataError, match="wanted the 64 x 48 pixels .* got 64 x 32"):
        writer.write(_picture(0, 32), 0.1)
    writer.close()
    assert len(list(read_video(tmp_path / "a.mp4"))) == 1


def test_video_needs_its_package(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(__import__("sys").modules, "av", None)
    with pytest.raises(MissingPackageError, match=r"pip install 'nasnet-det\[video\]'"):
        VideoWriter(tmp_path / "a.mp4")


def test_names_of_videos() -> None:
    assert is_video("a.MOV")
    assert is_video(Path("b/c.webm"))
    assert not is_video("a.jpg")
    assert not is_video("mp4")
