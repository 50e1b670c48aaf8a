"""What is wrong with what a user gave: one sentence, and its parts for whoever catches it.

Every error of this package that a user can mend is an :class:`InputError`; the command shows its
sentence instead of a traceback. Standard library only.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


class InputError(ValueError):
    """What a user gave can't be meant or used.

    Args:
        message: one sentence: what was wanted, what came, what to do.
        where: the key, the option, the file or the field.
        wanted: what would do: a value, a type, a range, names.
        got: what came instead.
        advice: what to do.

    Attributes:
        where, wanted, got, advice: as given; "" or None where there is nothing to say.
    """

    def __init__(
        self,
        message: str,
        *,
        where: object = "",
        wanted: object = None,
        got: object = None,
        advice: str = "",
    ) -> None:
        super().__init__(message)
        self.where, self.wanted, self.got, self.advice = str(where), wanted, got, advice

    def __reduce__(self) -> tuple[Any, ...]:
        """Travel between processes, whatever the arguments of a subclass are."""
        return _restore, (type(self), self.args, self.__dict__)


def _restore(kind: type[InputError], args: tuple[Any, ...], state: dict[str, Any]) -> InputError:
    error = kind.__new__(kind, *args)
    error.args = args
    error.__dict__.update(state)
    return error


class MissingPackageError(InputError, ModuleNotFoundError):
    """A package that is not installed.

    Args:
        package: its name.
        command: what installs it.
    """

    def __init__(self, package: str, command: str) -> None:
        super().__init__(
            f"the package {package} is not installed: run {command}",
            where=package,
            advice=command,
        )
        self.name = package


@contextmanager
def requires(extra: str) -> Iterator[None]:
    """Say what to install where a package is missing that the lines inside import.

    Args:
        extra: of this package, such as ``search``.

    Raises:
        MissingPackageError: in place of the ModuleNotFoundError.
    """
    try:
        yield
    except MissingPackageError:
        raise
    except ModuleNotFoundError as error:
        package = str(error.name).partition(".")[0]
        if package == "nasnet_det":  # a fault of ours
            raise
        what = f"'nasnet-det[{extra}]'" if extra else package
        raise MissingPackageError(package, f"pip install {what}") from error
