"""What `pytest --sagas` should know: what there is before any saga, and what must hold."""

from recourse.testing.ground import Ground

from services.seats import WORKSHOPS, workshop_key

SEATS = WORKSHOPS["pottery"].seats


def stock(ground: Ground) -> None:
    """On every fresh ground."""
    ground.add("seats", {"pk": workshop_key("pottery"), "free": SEATS})


def invariant_no_workshop_is_overbooked(ground: Ground) -> None:
    """At any time."""
    assert all(row["free"] >= 0 for row in ground.rows("seats", "workshop#"))


def at_rest_every_seat_is_free_or_paid_for(ground: Ground) -> None:
    """At the end, once every saga is at rest."""
    held = [row for row in ground.rows("seats", "hold#") if row["status"] == "HELD"]
    free = [row["free"] for row in ground.rows("seats", "workshop#")]
    assert sum(free) + sum(row["seats"] for row in held) == SEATS
    assert len(held) == len(ground.rows("payments", "payment#"))
