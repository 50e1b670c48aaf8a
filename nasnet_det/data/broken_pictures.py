"""What is done about pictures that can't be read: one policy, with the same meaning in every stage.

The key ``BROKEN_IMAGES`` (``SEARCH.DATA.``, ``DATA.`` and ``DATASETS.``) says it: ``skip`` leaves
such a picture out, names it and counts it; ``stop`` ends the run with its name.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence

from nasnet_det.config import ConfigError
from nasnet_det.data.error import DataError
from nasnet_det.near_names import nearest

POLICIES = ("skip", "stop")
_NAMED = 20  # so many stand in the log by name

logger = logging.getLogger(__name__)


def check_policy(key: str, policy: str, policies: Sequence[str] = POLICIES) -> None:
    """See that the value of a key is one of the policies.

    Raises:
        ConfigError: it is not.
    """
    if policy not in policies:
        raise ConfigError(f"{key}: unknown name {policy!r}, {nearest(policy, policies)}")


class BrokenPictures:
    """Counts pictures that can't be read, and names the first in the log; or stops at the first.

    Args:
        policy: one of :data:`POLICIES`.
    """

    def __init__(self, policy: str = "skip") -> None:
        self.policy = policy
        self.names: set[str] = set()

    def add(self, text: str) -> None:
        """One more; a picture counts once.

        Args:
            text: its name and the reason.

        Raises:
            DataError: the policy is to stop.
        """
        if self.policy == "stop":
            raise DataError(
                f"image {text} can't be read; mend or remove it, or set BROKEN_IMAGES to skip"
            )
        if text in self.names:
            return
        self.names.add(text)
        if len(self.names) <= _NAMED:
            logger.warning("image %s can't be read and is skipped", text)
        elif len(self.names) == _NAMED + 1:
            logger.warning("more images can't be read; their names are left out from here on")


def describe_broken(name: str, error: Exception) -> str:
    """The text for a picture: its name, and the reason in brackets."""
    reason = getattr(error, "reason", "") or " ".join(str(error).split()) or type(error).__name__
    return f"{name} ({reason})"
