"""A secret of AWS Secrets Manager: read when it is needed, and kept for some minutes in memory.

It is in no environment, template or log, and a rotated one is taken up without a deployment::

    secret = Secret(lambda: client("secretsmanager"), arn)
    key = secret.fields()["api_key"]  # one call, once in each process and five minutes
    secret.forget()                   # the key was refused: it is read anew when needed next
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from recourse.errors import RecourseError, TransientError
from recourse.store.aws import is_transient

LIFE = 300.0
"""For how many seconds a process keeps what it has read."""


class UnreadableSecretError(RecourseError, RuntimeError):
    """A secret is not there, may not be read, or is not JSON with fields of text."""


@dataclass(eq=False)
class Secret:
    """One secret, whose text is a JSON object.

    Attributes:
        manager: Makes a client of Secrets Manager, when it is first read.
        arn: Which secret.
        life: For how many seconds it is kept.
        clock: Seconds, that never go back.
    """

    manager: Callable[[], Any]
    arn: str
    life: float = LIFE
    clock: Callable[[], float] = time.monotonic
    _fields: Mapping[str, str] | None = field(default=None, init=False, repr=False)
    _until: float = field(default=0.0, init=False, repr=False)

    def fields(self) -> Mapping[str, str]:
        """What it says.

        Raises:
            TransientError: Secrets Manager did not answer, or was asked too often.
            UnreadableSecretError: It is not there, may not be read, or is not JSON of texts.
        """
        kept, now = self._fields, self.clock()
        if kept is None or now >= self._until:
            kept = self._read()
            self._fields, self._until = kept, now + self.life
        return kept

    def forget(self) -> None:
        """Read it anew when it is needed next."""
        self._fields = None

    def _read(self) -> Mapping[str, str]:
        try:
            text = self.manager().get_secret_value(SecretId=self.arn)["SecretString"]
        except BotoCoreError as problem:
            raise TransientError(f"secret {self.arn} could not be read: {problem}") from problem
        except ClientError as problem:
            if is_transient(problem):
                raise TransientError(f"secret {self.arn} could not be read: {problem}") from problem
            raise UnreadableSecretError(
                f"secret {self.arn} must be there and readable: {problem}"
            ) from problem
        except KeyError:
            raise UnreadableSecretError(f"secret {self.arn} must be text, not binary") from None
        try:
            found = json.loads(text)
        except ValueError:
            found = None  # what the parser says of it would be part of it
        if not isinstance(found, dict) or not all(isinstance(one, str) for one in found.values()):
            raise UnreadableSecretError(f"secret {self.arn} must be a JSON object of texts")
        return found
