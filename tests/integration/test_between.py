"""Each phase of a step under everything that may come between its calls, or instead of an answer.

The scenes below are all that a phase may meet; the rest is derived from them: the calls that a
phase makes, every answer of DynamoDB that may be another one a moment later, and every other phase
that may come before a write.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import count
from typing import Any

import pytest

from recourse.testing import calls
from recourse.testing.calls import (
    BROKEN,
    THROTTLES,
    WRITES,
    answered,
    before,
    disordered,
    in_turn,
    passing,
    recorded,
)
from tests.integration.bench import Bench
from tests.integration.bench import bench as made_bench
from tests.integration.plays import NOT_NOW, Outcome, Play, Scene

LOCAL = [
    Scene(),
    Scene(past=("action",)),
    Scene(wanted=9),
    Scene(past=("undo",)),
    Scene(past=("action",), options={"recover": 1}),
    Scene(role="retriable"),
    Scene(role="retriable", wanted=9),
    Scene(role="retriable", options={"skips": {"hold": "sent by post"}}),
    Scene(phase="undo"),
    Scene(phase="undo", past=("action",)),
    Scene(phase="undo", past=("action",), wanted=9),
    Scene(phase="undo", past=("action",), options={"skips": {"hold.undo": "by hand"}}),
    Scene(phase="give_up"),
    Scene(phase="give_up", past=("action",)),
    Scene(phase="confirm"),
    Scene(phase="confirm", past=("action",)),
    Scene(role="pivot", phase="settle"),
    Scene(role="pivot", phase="settle", past=("action",)),
    Scene(role="pivot", phase="cancel"),
    Scene(role="pivot", phase="cancel", past=("action",)),
    Scene(role="pivot", phase="cancel", past=("action",), wanted=9),
    Scene(role="pivot", options={"recover": 1}),
]
EXTERNAL = [
    Scene(step="external"),
    Scene(step="external", past=("charged",)),
    Scene(step="external", declines=True),
    Scene(
        step="external", role="retriable", past=("charged",), options={"skips": {"hold": "post"}}
    ),
    Scene(step="external", phase="undo"),
    Scene(step="external", phase="undo", past=("action",)),
    Scene(step="external", phase="undo", past=("charged", "long ago")),
    Scene(step="external", phase="give_up", past=("unreached", "long ago")),
    Scene(step="external", role="pivot", phase="settle", past=("charged", "long ago")),
    Scene(step="external", role="pivot", phase="settle", past=("unreached", "long ago")),
    Scene(step="external", role="pivot", phase="cancel", past=("charged",)),
]
each_scene = pytest.mark.parametrize("scene", [*LOCAL, *EXTERNAL], ids=str)


@dataclass(frozen=True)
class Plain:
    """A scene in which nothing goes wrong.

    Attributes:
        outcome: How its phase comes out.
        calls: What the phase calls: the operation, and which of these calls it is.
    """

    outcome: Outcome
    calls: Sequence[tuple[str, int]]


class Stage:
    """One table for all plays, each of which has a saga of its own."""

    def __init__(self, bench: Bench) -> None:
        self.bench = bench
        self._plain: dict[str, Plain] = {}

    def play(self, scene: Scene) -> Play:
        return Play(self.bench, scene)

    def plain(self, scene: Scene) -> Plain:
        """The scene as it is where nothing goes wrong."""
        if str(scene) not in self._plain:
            play = self.play(scene)
            with recorded() as made:
                outcome = play.ask()
            assert outcome != NOT_NOW and made and not calls.stale(made)
            play.must_be_legal()
            names = [call.operation for call in made]
            numbered = [(name, names[:at].count(name)) for at, name in enumerate(names)]
            self._plain[str(scene)] = Plain(outcome, numbered)
        return self._plain[str(scene)]


@pytest.fixture(scope="module")
def stage() -> Iterator[Stage]:
    with made_bench() as made:
        yield Stage(made)


@each_scene
def test_whatever_a_step_decides_on_is_read_consistently_and_in_any_order(
    stage: Stage, scene: Scene
) -> None:
    plain, play = stage.plain(scene), stage.play(scene)
    with disordered():
        assert play.ask() == plain.outcome
    play.must_be_legal()


@each_scene
def test_what_is_only_in_the_way_is_waited_out_within_the_try(stage: Stage, scene: Scene) -> None:
    plain = stage.plain(scene)
    for operation, number in plain.calls:
        play = stage.play(scene)
        answers = [one for name, one in passing(operation).items() if name not in BROKEN]
        waited = play.waited
        with answered(in_turn(answers), operation, number=number, times=len(answers)):
            assert play.ask() == plain.outcome, operation
        assert play.waited > waited
        play.must_be_legal()


@each_scene
def test_what_stays_in_the_way_is_said_before_the_time_of_the_try_is_over(
    stage: Stage, scene: Scene
) -> None:
    plain = stage.plain(scene)
    for operation, number in plain.calls:
        play = stage.play(scene)
        busy, waited = THROTTLES["ThrottlingException"], play.waited
        with answered(busy, operation, number=number, times=99):
            outcome = play.ask(timeout=1)
        # A refusal that was not recorded at once is not recorded by this try at all.
        assert outcome == NOT_NOW or scene.declines, operation
        assert play.waited - waited < 1
        assert play.finish() == plain.outcome
        play.must_be_legal()


@each_scene
def test_a_call_that_breaks_down_without_effect_is_made_again(stage: Stage, scene: Scene) -> None:
    plain = stage.plain(scene)
    for operation, number in plain.calls:
        play = stage.play(scene)
        for name, answer in BROKEN.items():
            with answered(answer, operation, number=number) as hit:
                outcome = play.ask()
            assert hit or scene.declines
            assert outcome in (NOT_NOW, plain.outcome), (operation, name)
            if outcome == plain.outcome:
                play.must_be_legal()
                play = stage.play(scene)
        assert play.finish() == plain.outcome
        play.must_be_legal()


@each_scene
def test_a_write_whose_answer_was_lost_has_one_effect(stage: Stage, scene: Scene) -> None:
    plain = stage.plain(scene)
    for operation, number in plain.calls:
        if operation not in WRITES:
            continue
        for name, answer in BROKEN.items():
            play = stage.play(scene)
            with answered(answer, operation, number=number, after=True):
                outcome = play.ask()
            assert outcome in (NOT_NOW, plain.outcome), (operation, name)
            if scene.step == "local":
                play.must_be_legal()  # before it is asked again, if it ever is
            assert play.finish() == plain.outcome, (operation, name)
            play.must_be_legal()


@pytest.mark.parametrize("scene", EXTERNAL, ids=str)
def test_a_process_that_dies_after_a_write_leaves_what_can_be_brought_to_rest(
    stage: Stage, scene: Scene
) -> None:
    for operation, number in stage.plain(scene).calls:
        if operation in WRITES:
            play = stage.play(scene)
            with answered(BROKEN["an answer that was lost"], operation, number=number, after=True):
                assert play.ask() == NOT_NOW
            play.must_be_legal()


# What comes between.

CANCELLED: Outcome = ("raised", "StepCancelledError")
TOO_LATE: Outcome = ("answered", {"cancelled": False})

OTHERS = {"compensable": ("action", "undo", "give_up"), "pivot": ("action", "settle", "cancel")}
BEGINNINGS = [
    *(
        Scene(phase=phase, role=role, wanted=wanted)
        for role, phases in OTHERS.items()
        for phase in phases
        for wanted in (2, 9)
    ),
    Scene(phase="undo", past=("action",)),
    Scene(phase="confirm", past=("action",)),
    *(
        Scene(step="external", phase=phase, role=role, past=past)
        for role, phases in OTHERS.items()
        for phase in phases
        for past in ((), ("charged",), ("charged", "long ago"), ("unreached", "long ago"))
        if phase != "cancel" or not past
    ),
    Scene(step="external", phase="undo", past=("action",)),
    Scene(step="external", declines=True),
]


@pytest.mark.parametrize("scene", BEGINNINGS, ids=str)
def test_whatever_comes_before_a_write_there_is_one_effect_or_none(
    stage: Stage, scene: Scene
) -> None:
    others = ("confirm",) if scene.phase == "confirm" else OTHERS[scene.role]
    if scene.phase == "action":
        others = (*others, *(["rival"] if scene.step == "local" else ["younger", "older"]))
    for other in others:
        for number in count():
            came: list[Outcome | None] = []
            play = stage.play(scene)

            def meet(play: Play = play, other: str = other, came: Any = came) -> None:
                came.append(play.meet(other))

            with before(meet, number=number, sure=False):
                outcome = play.ask()
            if not came:
                assert number, "it writes"
                break
            must_agree(play, scene.phase, outcome)
            if other != scene.phase and came[0]:
                must_agree(play, other, came[0])
            play.must_be_legal()


def must_agree(play: Play, phase: str, outcome: Outcome) -> None:
    """What a phase came to is what it comes to again, unless it was still to be found out."""
    again = play.finish(phase)
    if play.scene.role == "pivot" and outcome in (TOO_LATE, CANCELLED):
        assert outcome == again or play.scene.step == "external"
    else:
        assert outcome in (NOT_NOW, again), (phase, outcome, again)
