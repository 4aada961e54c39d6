"""Gap: an object of moto that is deleted while another thread reads or copies it is an error 500.

A deletion closes the object's buffer. On S3 whoever has begun to read reads to the end, so here the
buffer is closed once nobody holds the object any more.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from moto.s3.models import FakeKey

from recourse.testing.patching import replaced


@contextmanager
def whole() -> Iterator[None]:
    """A copy of an object is of all of it, whatever becomes of the object."""
    dispose = FakeKey.dispose

    def late(key: FakeKey, garbage: bool = False) -> None:
        if garbage:
            dispose(key, garbage=True)
        key.disposed = True

    with replaced(FakeKey, "dispose", late):
        yield
