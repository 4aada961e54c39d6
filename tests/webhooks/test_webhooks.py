"""What an endpoint gets: every event that it wants, in order, again until it takes it."""

from __future__ import annotations

from tests.webhooks.conftest import Ground


def test_every_event_of_the_owner_arrives_in_the_order_of_its_saga(hooks: Ground) -> None:
    hooks.register()
    hooks.tell("a", 1, 2)
    hooks.tell("b", 1)
    hooks.tell("r", 1, owner="ravi")
    hooks.run()
    hooks.tell("a", 3)
    hooks.run()
    got = hooks.endpoints.got()
    assert sorted(got) == ["a1", "a2", "a3", "b1"]
    assert [one for one in got if one[0] == "a"] == ["a1", "a2", "a3"]
    assert hooks.waiting() == 0
