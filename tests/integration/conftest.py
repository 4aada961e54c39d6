from collections.abc import Iterator

import pytest

from tests.ground import Ground, ground
from tests.integration import bench as benches
from tests.integration.trips import stock


@pytest.fixture(scope="module")
def bare() -> Iterator[Ground]:
    """One ground for a module, with nothing on it."""
    with ground() as made:
        yield made


@pytest.fixture(scope="module")
def shared(bare: Ground) -> Ground:
    """One ground for a module whose tests do not disturb each other."""
    stock(bare)
    return bare


@pytest.fixture
def fresh() -> Iterator[Ground]:
    """A ground of one's own."""
    with ground() as made:
        stock(made)
        yield made


@pytest.fixture
def bench() -> Iterator[benches.Bench]:
    """A step on its own."""
    with benches.bench() as made:
        yield made
