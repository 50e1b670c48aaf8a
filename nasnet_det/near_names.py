"""What a wrong name may have meant, for the ends of error sentences."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable

NEAR = 0.6  # of 1: as alike as a slip of the fingers leaves two words, case and signs aside
_NO_LETTERS = re.compile(r"[\W_]+")


def nearest(name: object, valid: Iterable[str]) -> str:
    """The valid name most like ``name``, if one is near, as the end of an error sentence.

    >>> nearest("sep_conv_5", ["sep_conv_5x5", "identity"])
    "did you mean 'sep_conv_5x5'? (valid: identity, sep_conv_5x5)"
    """
    choices = sorted(valid)
    plain = {_NO_LETTERS.sub("", choice.lower()): choice for choice in choices}
    given = _NO_LETTERS.sub("", str(name).lower())
    close = difflib.get_close_matches(given, plain, n=1, cutoff=NEAR)
    names = ", ".join(choices)
    return f"did you mean '{plain[close[0]]}'? (valid: {names})" if close else f"valid: {names}"


def nearest_of_many(name: object, valid: Iterable[str]) -> str:
    """As :func:`nearest`, where a list of all valid names would bury the sentence."""
    hint = nearest(name, valid).partition(" (valid:")[0]
    return hint if hint.startswith("did you mean") else "and none is like it"
