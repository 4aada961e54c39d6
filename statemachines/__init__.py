"""Every saga: one declaration in each file, listed here, beside its compiled machine."""

from recourse import collect
from statemachines.card_order import CARD_ORDER
from statemachines.order import ORDER
from statemachines.order_refund import ORDER_REFUND
from statemachines.transfer import TRANSFER
from statemachines.travel_booking import TRAVEL_BOOKING
from statemachines.trip_refund import TRIP_REFUND
from statemachines.visit import VISIT

SAGAS = collect(
    TRAVEL_BOOKING,
    ORDER,
    CARD_ORDER,
    TRANSFER,
    VISIT,
    TRIP_REFUND,
    ORDER_REFUND,
)
