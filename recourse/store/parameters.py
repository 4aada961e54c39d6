"""What a deployment says of each saga and service: parameters of SSM, read when first needed.

A function's environment has 4 KB for everything, and would not hold what grows with the sagas::

    machines = Parameters(lambda: client("ssm"), "/recourse/Shop-dev/machines")
    machines["order"]  # "arn:aws:states:…:stateMachine:Order…:live": one call, in each process once
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

from botocore.exceptions import BotoCoreError, ClientError

from recourse.errors import RecourseError, TransientError
from recourse.store.aws import is_transient


class UnreadableParameterError(RecourseError, RuntimeError):
    """A parameter is not there, or may not be read: the stacks and the code disagree."""


class Named(Protocol):
    """Values by name: a mapping, or `Parameters`."""

    def __getitem__(self, name: str, /) -> str:
        """The value of that name."""


@dataclass(frozen=True)
class Parameters:
    """The parameters below a path, by the last part of their names, kept once they are read.

    A deployment that changes a value must replace the processes that may have read it.

    Attributes:
        ssm: Makes a client of SSM, when the first is read.
        path: What their names begin with, such as `/recourse/Shop-dev/machines`.
    """

    ssm: Callable[[], Any]
    path: str
    _read: dict[str, str] = field(default_factory=dict, init=False, repr=False)

    def __getitem__(self, name: str) -> str:
        """The value of a parameter.

        Raises:
            TransientError: SSM did not answer, or was asked too often.
            UnreadableParameterError: There is no such parameter, or the function may not read it.
        """
        if name not in self._read:
            self._read[name] = self._value(f"{self.path}/{name}")
        return self._read[name]

    def _value(self, whole: str) -> str:
        try:
            value: str = self.ssm().get_parameter(Name=whole)["Parameter"]["Value"]
        except BotoCoreError as problem:
            raise TransientError(f"parameter {whole} could not be read: {problem}") from problem
        except ClientError as problem:
            if is_transient(problem):
                raise TransientError(f"parameter {whole} could not be read: {problem}") from problem
            raise UnreadableParameterError(
                f"parameter {whole} must be there and readable; the stack that makes it must be "
                f"deployed first: {problem}"
            ) from problem
        return value
