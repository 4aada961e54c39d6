"""Every saga there is: one declaration a file, listed here, beside what it compiles to."""

from recourse.saga import Saga
from statemachines.order import ORDER
from statemachines.travel_booking import TRAVEL_BOOKING

SAGAS: dict[str, Saga] = {
    saga.name: saga
    for saga in (
        TRAVEL_BOOKING,
        ORDER,
    )
}
