"""What all the tests have in common."""

import tests.profile  # noqa: F401
