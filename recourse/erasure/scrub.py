"""What becomes of the text in what must stay: pure functions of rows, events and records.

A person's rows stay where sums, idempotency or stock depend on them, but not what they say of the
person. The subject is replaced by a pseudonym, the same one throughout, so that sums by owner still
add up; all other text by `ERASED`, except

- what a service's action or a consumer declares in `keeps`, by the field's name, at any depth;
- `KEPT`: what the library or its conventions put there, never a person;
- keys of rows, which are made from the ids of sagas;
- amounts of money: `{"amount": 1200, "currency": "EUR"}`.

Numbers and truth values stay. Names of fields stay; where a map within a row has names that came
from the request, those are replaced too. Of a request only stays which fields it had, for that says
which steps it left out. All of it may be done again and changes nothing more.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from recourse.declare.step import Item
from recourse.events import Event
from recourse.ledger.record import ERASED, Record

KEPT = frozenset({"pk", "saga_id", "step", "status"})
"""The fields of rows and results whose text always stays."""
_OF_EVENTS = {
    *("step", "attempts", "entered_at", "run", "outcome", "early", "follows", "coordination"),
    *("shape", "due_at"),
}
"""The data of events that say nothing of a person."""
_OF_QUESTIONS = ("question", "answer")
SHORT = 4
"""Characters of a text of a request from which on it is looked for within a name, too."""


@dataclass(frozen=True)
class Scrub:
    """The replacement of one person's text.

    Attributes:
        subject: The person.
        pseudonym: What replaces the subject.
        keeps: The names of the fields that each service and each consumer keeps.
        services: The service of each step, by saga and step.
        said: The text in the person's requests.
    """

    subject: str
    pseudonym: str
    keeps: Mapping[str, Collection[str]]
    services: Mapping[tuple[str, str], str]
    said: Collection[str] = ()

    def row(self, service: str, row: Mapping[str, Any]) -> Item:
        """A row of a service's table, or of a consumer's own: as it is to be."""
        keeps = self.keeps.get(service, ())
        kind = str(row["pk"]).partition("#")[0]
        if kind == "marker":
            return {name: self._of_marker(name, value, keeps) for name, value in row.items()}
        if kind == "outbox":
            return {**row, "event": self.event(Event.parse(row["event"])).to_json()}
        if kind == "inbox":
            known = {**row}
            for name in row:
                what, _, step = name.partition("#")
                if what == "result":
                    known[name] = self.value(row[name], self._kept_by_step(step))
            return known
        return {
            name: value if name in KEPT or name in keeps else self.value(value, keeps)
            for name, value in row.items()
        }

    def value(self, value: Any, keeps: Collection[str] = ()) -> Any:
        """Any value within a row or a result, whose own field is not kept."""
        if isinstance(value, str):
            if value in (self.subject, self.pseudonym):
                return self.pseudonym
            return ERASED if value else value
        if isinstance(value, Mapping):
            if value.keys() == {"amount", "currency"} and isinstance(value["amount"], int):
                return dict(value)
            return dict(self._fields(value, keeps))
        if isinstance(value, list | tuple):
            return [self.value(one, keeps) for one in value]
        return value

    def event(self, event: Event) -> Event:
        """An event, with what it carries."""
        keeps = self._kept_by(event.saga, event.step)
        data: dict[str, Any] = {}
        for name, value in event.data.items():
            if name in _OF_EVENTS:
                data[name] = value
            elif name == "error":
                data[name] = self._error(value)
            elif name == "carried":
                data[name] = self._carried(event.saga, value)
            elif name in _OF_QUESTIONS:
                data[name] = self._asked(value)
            else:
                data[name] = self.value(value, keeps)
        return replace(event, data=data)

    def record(self, record: Record, at: str) -> Record:
        """The record of one of the person's sagas, at rest.

        Args:
            record: As it is.
            at: When it is erased.
        """
        decided = self.decisions(record)
        reverses = decided.reverses
        return replace(
            record,
            owner=self.pseudonym,
            business_key=ERASED,
            request=_presence(record.request),
            body=f"{ERASED}:{at}",
            entered=[self.event(one) for one in record.entered],
            waiting=[self.event(one) for one in record.waiting],
            skips=dict.fromkeys(record.skips, ERASED),
            resolutions=[{**one, "reason": ERASED} for one in decided.resolutions],
            reverses=reverses and {**reverses, "reason": reverses["reason"] and ERASED},
            failure={name: self.value(one, ("Error",)) for name, one in record.failure.items()},
        )

    def decisions(self, record: Record) -> Record:
        """A record of anybody's, of whose questions, stuck steps or reversal the person decided.

        What they said of it stays: it is about somebody else's saga.
        """
        return replace(
            record,
            resolutions=[self._by(one) for one in record.resolutions],
            reverses=record.reverses and self._by(record.reverses),
            entered=[self.event_of_another(one) for one in record.entered],
            waiting=[self.event_of_another(one) for one in record.waiting],
        )

    def event_of_another(self, event: Event) -> Event:
        """An event of another's saga, which may say whom a question is put to, or who decided."""
        data = event.data
        found = {name: self._named(data[name]) for name in _OF_QUESTIONS if name in data}
        return replace(event, data={**data, **found}) if found else event

    def row_of_another(self, row: Mapping[str, Any]) -> Item:
        """The same of a row: a marker, or what an outbox publishes."""
        kind = str(row["pk"]).partition("#")[0]
        if kind == "outbox":
            before = Event.parse(row["event"])
            after = self.event_of_another(before)
            return {**row, "event": after.to_json()} if after != before else {**row}
        if kind != "marker":
            return {**row}
        return {**row, **{name: self._named(row[name]) for name in _OF_QUESTIONS if name in row}}

    def _named(self, said: Any) -> Any:
        """A question or its answer, without the person's subject."""
        if not isinstance(said, Mapping):
            return said
        who = {name: self.pseudonym for name in ("to", "by") if said.get(name) == self.subject}
        return {**said, **who}

    def _by(self, decided: Mapping[str, Any]) -> Mapping[str, Any]:
        return {**decided, "by": self.pseudonym} if decided["by"] == self.subject else decided

    def _of_marker(self, name: str, value: Any, keeps: Collection[str]) -> Any:
        if name == "result":
            return self.value(value, {*keeps, *KEPT})
        if name in _OF_QUESTIONS:
            return self._asked(value)
        return self._error(value) if name == "error" else value

    def _asked(self, said: Mapping[str, Any]) -> dict[str, Any]:
        """A question about the person, or its answer; who was asked may be somebody else."""
        found = {**self._named(said)}
        for name in ("about", "reason"):
            if name in said:
                found[name] = self.value(said[name])
        return found

    def _error(self, error: Mapping[str, Any]) -> dict[str, Any]:
        return {"type": error["type"], "message": ERASED}

    def _carried(self, saga: str, carried: Mapping[str, Any]) -> dict[str, Any]:
        run = carried["saga"]
        return {
            **carried,
            "saga": {
                **run,
                "owner": self.pseudonym,
                "business_key": ERASED,
                "skips": dict.fromkeys(run.get("skips", ()), ERASED),
            },
            "request": _presence(carried["request"]),
            "results": {
                step: self.value(result, self._kept_by(saga, step))
                for step, result in carried["results"].items()
            },
            **({"failure": self.value(carried["failure"])} if "failure" in carried else {}),
        }

    def _fields(
        self, found: Mapping[str, Any], keeps: Collection[str]
    ) -> Iterator[tuple[str, Any]]:
        used: set[str] = set()
        for name, value in found.items():
            if name in keeps or name in KEPT:
                yield name, value
                continue
            new = name
            if self._was_said(name):
                new, number = ERASED, 1
                while new in used or new in found:
                    number += 1
                    new = f"{ERASED}-{number}"
            used.add(new)
            yield new, self.value(value, keeps)

    def _was_said(self, name: str) -> bool:
        return name in self.said or any(len(one) >= SHORT and one in name for one in self.said)

    def _kept_by(self, saga: str, step: str | None) -> Collection[str]:
        service = self.services.get((saga, step or ""), "")
        return {*self.keeps.get(service, ()), *KEPT}

    def _kept_by_step(self, step: str) -> Collection[str]:
        """What is kept of a step's result where the saga is not named."""
        found = {service for (_, name), service in self.services.items() if name == step}
        each = [set(self.keeps.get(service, ())) for service in found]
        return (set.intersection(*each) if each else set()) | KEPT


def texts(value: Any) -> Iterator[str]:
    """Every text within JSON, names of fields excepted."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for one in value.values():
            yield from texts(one)
    elif isinstance(value, Sequence):
        for one in value:
            yield from texts(one)


def changed_fields(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[str]:
    """The names of the fields that differ."""
    return sorted(name for name in before if before[name] != after[name])


def _presence(request: Mapping[str, Any]) -> dict[str, Any]:
    """Which fields a request had."""
    return {name: None if value is None else ERASED for name, value in request.items()}
