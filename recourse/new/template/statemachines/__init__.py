"""Every saga: one declaration in each file, listed here, beside what it compiles to."""

from recourse import collect

from statemachines.booking import BOOKING

SAGAS = collect(
    BOOKING,
)
