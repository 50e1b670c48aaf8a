"""Signals that are noted, so that what is done can be saved first."""

from __future__ import annotations

import os
import signal
import time

import pytest

from nasnet_det.runs.signals import SignalCatcher, StoppedBySignal


def test_first_signal_is_noted_and_the_same_from_two_senders_is_one(
    caplog: pytest.LogCaptureFixture,
) -> None:
    before = signal.getsignal(signal.SIGTERM)
    catcher = SignalCatcher("step")
    catcher.catch()
    try:
        assert catcher.number == 0
        os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGINT)
        assert catcher.number == signal.SIGTERM
        assert "SIGTERM: stopping after this step; again to stop at once" in caplog.text
    finally:
        catcher.restore()
    assert signal.getsignal(signal.SIGTERM) is before


def test_later_one_has_its_usual_effect(monkeypatch: pytest.MonkeyPatch) -> None:
    catcher = SignalCatcher("step")
    catcher.catch()
    try:
        os.kill(os.getpid(), signal.SIGINT)
        now = time.monotonic()
        monkeypatch.setattr(time, "monotonic", lambda: now + 2)
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
    finally:
        catcher.restore()


def test_status_is_the_shells() -> None:
    stop = StoppedBySignal(signal.SIGINT, "all is saved")
    assert (stop.status, str(stop)) == (130, "stopped by SIGINT; all is saved")
    assert str(StoppedBySignal(signal.SIGTERM)) == "stopped by SIGTERM"
    assert isinstance(stop, KeyboardInterrupt)
