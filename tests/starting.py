"""Local clouds for tests: as `recourse up` starts them, but for what is judged elsewhere."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from recourse.local.cloud import LocalCloud


@contextmanager
def local_cloud(**options: Any) -> Iterator[LocalCloud]:
    """A local cloud whose templates the CDK does not judge by CloudFormation's rules.

    tests/infra has those of the same apps judged; it takes several seconds a start.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CDK_VALIDATION", "false")
        with LocalCloud(**options) as cloud:
            patch.undo()
            yield cloud
