"""One suite over every channel: what it promises holds, whatever goes wrong around it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Any, get_args

import pytest

from tests.push.bed import DOWN, NOW, OWNER, Application, Bed, Fault, story
from tests.push.channels import CHANNELS, Channel, Make

FAULTS = get_args(Fault)
UNORDERED = {name: make for name, make in CHANNELS.items() if make.promises.order == "sequence"}


def suffer(ground: Bed, fault: Fault) -> None:
    """Let what is around the consumer go wrong; what goes wrong in it is the application's."""
    ground.duplicates = fault == "duplicates"
    if fault == "endpoint down":
        ground.down_until = NOW + DOWN


def come_to_rest(ground: Bed, channel: Channel, told: list[dict[str, Any]]) -> None:
    """Let events enter the feed while others are delivered, until nothing comes any more."""
    waiting = [told[start : start + 3] for start in range(0, len(told), 3)]
    while True:
        if waiting:
            ground.append(OWNER, waiting.pop(0))
        moved = ground.relay() | channel.deliver()
        if not moved and not waiting and not ground.wait(*channel.next()):
            return


def ids(events: Iterable[Mapping[str, Any]]) -> list[str]:
    return [one["id"] for one in events]


def is_in_order(events: Iterable[Mapping[str, Any]]) -> bool:
    """Whether each saga's events come in the order of their sequence."""
    found: dict[str, list[int]] = defaultdict(list)
    for one in events:
        found[one["subject"]].append(one["sequence"])
    return all(sequences == sorted(sequences) for sequences in found.values())


@pytest.mark.parametrize("fault", FAULTS)
def test_nothing_is_lost_and_each_has_one_effect_in_order_where_that_is_promised(
    make: Make, ground: Bed, fault: Fault
) -> None:
    app = Application(ground, fault)
    channel, told = make(ground, app), story()
    suffer(ground, fault)
    come_to_rest(ground, channel, told)
    assert channel.dead_lettered() == []
    assert sorted(ids(app.effects)) == sorted(ids(told))
    if channel.promises.order == "channel":
        first = {one["id"]: one for one in reversed(app.arrived)}.values()
        assert is_in_order(app.effects) and is_in_order(reversed(first))
    # The fault was really there: else this would show nothing.
    if fault == "consumer killed":
        assert app.deaths == 4
    if fault in ("duplicates", "random failures", "consumer killed"):
        assert len(app.arrived) > len(told)
    if fault == "endpoint down":
        assert ground.now >= NOW + DOWN


def test_nothing_is_lost_where_the_consumer_is_away_for_almost_as_long_as_it_may(
    make: Make, ground: Bed
) -> None:
    app = Application(ground)
    channel, told = make(ground, app), story(2, 2)
    ground.down_until = NOW + 0.9 * channel.promises.outlasts
    come_to_rest(ground, channel, told)
    assert channel.dead_lettered() == []
    assert sorted(ids(app.effects)) == sorted(ids(told))
    assert ground.now >= ground.down_until


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("make", UNORDERED.values(), ids=list(UNORDERED))
def test_a_consumer_restores_the_order_by_sequence(make: Make, ground: Bed, fault: Fault) -> None:
    app = Application(ground, fault, in_order=True)
    channel, told = make(ground, app), story()
    suffer(ground, fault)
    ground.append(OWNER, told)
    come_to_rest(ground, channel, [])
    assert is_in_order(app.effects)
    # What was early too often is dead-lettered, and so is what waits for it; nothing is gone.
    assert sorted(ids(app.effects) + channel.dead_lettered()) == sorted(ids(told))
    assert len(app.effects) >= len(told) / 2


def test_a_channel_that_promises_no_order_really_keeps_none(make: Make, ground: Bed) -> None:
    app = Application(ground)
    channel = make(ground, app)
    ground.append(OWNER, story())
    come_to_rest(ground, channel, [])
    assert is_in_order(app.arrived) == (channel.promises.order == "channel")


def test_poison_is_tried_so_often_and_dead_lettered_and_the_rest_is_done(
    make: Make, ground: Bed
) -> None:
    told = story()
    poison = told[4]
    app = Application(ground, poison=poison["id"])
    channel = make(ground, app)
    come_to_rest(ground, channel, told)
    assert 1 < app.tries[poison["id"]] <= channel.promises.attempts
    assert channel.dead_lettered() == [poison["id"]]
    assert sorted(ids(app.effects)) == sorted(id for id in ids(told) if id != poison["id"])


def test_what_waits_behind_poison_is_what_the_channel_says(make: Make, ground: Bed) -> None:
    told = story()
    poison = told[4]
    app = Application(ground, poison=poison["id"])
    channel = make(ground, app)
    ground.append(OWNER, told)
    while not app.tries[poison["id"]]:
        assert ground.relay() | channel.deliver() | ground.wait(*channel.next())
    while (ground.relay() | channel.deliver()) and not channel.dead_lettered():
        pass  # all that comes without any time passing
    behind = {one["id"] for one in told[5:]} - set(ids(app.effects))
    own = {one["id"] for one in told[5:] if one["subject"] == poison["subject"]}
    if not channel.dead_lettered():
        expected = {"nothing": set(), "saga": own, "feed": {one["id"] for one in told[5:]}}
        assert behind == expected[channel.promises.blocks]
