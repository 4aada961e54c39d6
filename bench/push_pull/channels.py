"""Consumers of each path, as the benchmark starts, stops, cuts off and counts them."""

from __future__ import annotations

import os
import queue
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import reduce
from pathlib import Path as File
from typing import Protocol

import httpx

from bench import ROOT
from bench.push_pull.consumer import Settings
from bench.push_pull.paths import Path
from bench.push_pull.place import FOLDER, Place
from bench.push_pull.wire import CountingProxy, Traffic
from lambdas.probe import Effects
from recourse.events import Event
from recourse.feed.feed import cursor_of
from recourse.local.ports import free_port

AGAIN = 0.3
"""Seconds until a consumer that has died is started again."""
READY = 30
"""Seconds until a consumer must be ready."""


class UnreachableError(Exception):
    """The path cannot be reached from here; the message says why."""


class Channel(Protocol):
    """The consumers of one path."""

    def stop(self) -> None:
        """Stop consuming, in order; what comes meanwhile waits, or is lost."""

    def go_on(self) -> None:
        """Consume again."""

    def cut(self) -> bool:
        """Cut the consumers off; whether that can be done from here."""

    def mend(self) -> None:
        """End that."""

    def traffic(self) -> Traffic | None:
        """What went over the wire so far; None where that cannot be counted."""

    def sent(self, event: Event) -> None:
        """Hear of an event that was appended."""


class Functions:
    """Functions of the probe: they run by themselves.

    Args:
        place: Where they are deployed.
        queue_arn: The queue that they are fed from; None where SNS calls them.
    """

    def __init__(self, place: Place, queue_arn: str | None) -> None:
        self._lambda = place.client("lambda")
        self._queue = queue_arn

    def stop(self) -> None:
        """Switch the mapping off; SNS to Lambda cannot be stopped by its consumer."""
        self._switch(on=False)

    def go_on(self) -> None:
        """Switch the mapping on."""
        self._switch(on=True)

    def cut(self) -> bool:
        """Say that it cannot be done: the function itself has to fail."""
        return False

    def mend(self) -> None:
        """Do nothing."""

    def traffic(self) -> Traffic | None:
        """Say that it is not seen: it stays within AWS."""
        return None

    def sent(self, event: Event) -> None:
        """Do nothing: the event comes by itself."""

    def _switch(self, *, on: bool) -> None:
        if self._queue is None:
            raise UnreachableError("SNS does not stop for its subscriber")
        found = self._lambda.list_event_source_mappings(EventSourceArn=self._queue)
        (mapping,) = found["EventSourceMappings"]
        self._lambda.update_event_source_mapping(UUID=mapping["UUID"], Enabled=on)


class Direct:
    """No channel at all: what is appended is committed by a thread beside the sender's."""

    def __init__(self, place: Place) -> None:
        self._effects = Effects(place.client("dynamodb"), place.outputs["ProbeTableName"])
        self._come: queue.SimpleQueue[Event | None] = queue.SimpleQueue()
        threading.Thread(target=self._work, daemon=True).start()

    def stop(self) -> None:
        """Say that there is nothing to stop."""
        raise UnreachableError("there is no channel")

    def go_on(self) -> None:
        """Do nothing."""

    def cut(self) -> bool:
        """Say that there is nothing to cut."""
        return False

    def mend(self) -> None:
        """Do nothing."""

    def traffic(self) -> Traffic | None:
        """Say that there is none."""
        return None

    def sent(self, event: Event) -> None:
        """Hand an event over."""
        self._come.put(event)

    def close(self) -> None:
        """End the thread."""
        self._come.put(None)

    def _work(self) -> None:
        while (event := self._come.get()) is not None:
            self._effects.commit(event)


class Processes:
    """Consumers in processes of their own, which are started again when they die.

    Args:
        make: Makes each consumer's command and its environment.
        count: How many there are.
        wires: What their traffic goes through.
    """

    def __init__(
        self,
        make: Callable[[int], tuple[Sequence[str], Mapping[str, str]]],
        count: int,
        wires: Sequence[CountingProxy],
    ) -> None:
        self._make = make
        self._count = count
        self._wires = wires
        self._stopping = threading.Event()
        self._running: dict[int, subprocess.Popen[str]] = {}
        self._watch: list[threading.Thread] = []
        self.go_on()

    def go_on(self) -> None:
        """Start every consumer, and wait until each listens."""
        self._stopping.clear()
        started = threading.Barrier(self._count + 1, timeout=READY)
        self._watch = [
            threading.Thread(target=self._keep, args=(number, started), daemon=True)
            for number in range(self._count)
        ]
        for thread in self._watch:
            thread.start()
        try:
            started.wait()
        except threading.BrokenBarrierError:
            self.stop()
            raise UnreachableError(f"its consumer did not listen within {READY} s") from None

    def stop(self) -> None:
        """End every consumer in order."""
        self._stopping.set()
        for process in list(self._running.values()):
            process.terminate()
        for thread in self._watch:
            thread.join(READY)

    def cut(self) -> bool:
        """Cut every wire."""
        for wire in self._wires:
            wire.cut()
        return bool(self._wires)

    def mend(self) -> None:
        """Mend every wire."""
        for wire in self._wires:
            wire.mend()

    def traffic(self) -> Traffic | None:
        """What went over all wires."""
        if not self._wires:
            return None
        nothing = Traffic()
        return reduce(lambda a, b: a - (nothing - b), (w.traffic for w in self._wires), nothing)

    def sent(self, event: Event) -> None:
        """Do nothing: the event comes by itself."""

    def _keep(self, number: int, started: threading.Barrier) -> None:
        first = True
        while not self._stopping.is_set():
            command, environment = self._make(number)
            with (FOLDER / "consumers.log").open("ab") as log:
                process = subprocess.Popen(
                    command,
                    cwd=ROOT,
                    env={**os.environ, **environment},
                    stdout=subprocess.PIPE,
                    stderr=log,
                    text=True,
                )
            self._running[number] = process
            if self._stopping.is_set():
                process.terminate()
            assert process.stdout
            if process.stdout.readline() and first:
                started.wait()
                first = False
            while process.stdout.readline():
                pass  # it says nothing that matters; a full pipe would stop it
            process.wait()
            self._stopping.wait(AGAIN)


@contextmanager
def channel(path: Path, place: Place, owners: Sequence[str]) -> Iterator[Channel]:
    """The consumers of a path, one for each owner, for the length of a block.

    Raises:
        UnreachableError: They cannot be had from here.
    """
    with ExitStack() as stack:
        match path.key:
            case "null":
                direct = Direct(place)
                stack.callback(direct.close)
                yield direct
            case "sns-lambda":
                yield Functions(place, None)
            case "sqs-lambda":
                yield Functions(place, place.outputs["ProbePullQueueArn"])
            case "worker":
                yield _workers(stack, place, len(owners))
            case "webhook":
                yield _webhooks(stack, place, owners)
            case _:
                yield _clients(stack, path, place, owners)


def _processes(
    stack: ExitStack,
    make: Callable[[int], tuple[Sequence[str], Mapping[str, str]]],
    count: int,
    wires: Sequence[CountingProxy],
) -> Processes:
    made = Processes(make, count, wires)
    stack.callback(made.stop)
    return made


def _wire(stack: ExitStack, url: str) -> CountingProxy | None:
    """A counting way to an address; None to one with TLS, where nothing can be counted."""
    address = httpx.URL(url)
    if address.scheme not in ("http", "ws"):
        return None
    return stack.enter_context(CountingProxy(address.host, address.port or 80))


def _over(wire: CountingProxy | None, url: str) -> str:
    """The same address over a wire."""
    return str(httpx.URL(url).copy_with(host="127.0.0.1", port=wire.port)) if wire else url


def _command(settings: Settings) -> list[str]:
    return [sys.executable, "-m", "bench.push_pull.consumer", settings.text]


def _clients(stack: ExitStack, path: Path, place: Place, owners: Sequence[str]) -> Processes:
    """Clients of the feed: each reads its own owner's from where it stands now."""
    if path.key in ("long-poll", "poll"):
        url = f"{place.api}/events"
    else:
        url = place.health["events"].get({"sse": "sse", "websocket": "ws"}[path.key], "")
    if not url:
        raise UnreachableError("the API names no address of it")
    wire = _wire(stack, url)
    every = [
        Settings(
            kind=path.key,
            url=_over(wire, url),
            token=place.token(owner),
            cursor=str(_cursor(path, place, owner)),
            table=place.outputs["ProbeTableName"],
        )
        for owner in owners
    ]
    return _processes(
        stack,
        lambda number: (_command(every[number]), place.environment),
        len(every),
        [wire] if wire else [],
    )


def _cursor(path: Path, place: Place, owner: str) -> File:
    """A file with the cursor of what comes from now on."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    file = FOLDER / f"{path.key}-{owner}.cursor"
    file.write_text(cursor_of(owner, place.feed.head(owner)))
    return file


def _webhooks(stack: ExitStack, place: Place, owners: Sequence[str]) -> Processes:
    """Endpoints on loopback, each registered for its owner; the wires stand before them."""
    if not place.is_local:
        raise UnreachableError("AWS cannot call an endpoint on this machine's loopback")
    made = []
    for owner in owners:
        port = free_port(0)
        wire = stack.enter_context(CountingProxy("127.0.0.1", port))
        stack.enter_context(_registered(place, owner, f"{wire.url}/"))
        table = place.outputs["ProbeTableName"]
        made.append((Settings(kind="webhook", url=f"http://127.0.0.1:{port}", table=table), wire))
    return _processes(
        stack,
        lambda number: (_command(made[number][0]), place.environment),
        len(made),
        [wire for _, wire in made],
    )


@contextmanager
def _registered(place: Place, owner: str, url: str) -> Iterator[None]:
    """A webhook of an owner, for the length of a block."""
    bearer = {"authorization": f"Bearer {place.token(owner)}"}
    with httpx.Client(base_url=place.api, headers=bearer, trust_env=False, timeout=30) as http:
        asked = {"url": url, "events": ["recourse.probe.*"]}
        answer = http.post("/webhooks", json=asked)
        if answer.status_code != 201:
            raise UnreachableError(f"the webhook was refused: {answer.text}")
        try:
            yield
        finally:
            http.delete(f"/webhooks/{answer.json()['webhook_id']}").raise_for_status()


def _workers(stack: ExitStack, place: Place, count: int) -> Processes:
    """Workers on the probe's queue; locally they find SQS over a wire."""
    queue_url = place.outputs["ProbeWorkerQueueUrl"]
    settings = Settings(kind="worker", url=queue_url, table=place.outputs["ProbeTableName"])
    wire = _wire(stack, place.environment["AWS_ENDPOINT_URL"]) if place.is_local else None
    environment = {**place.environment, **({"AWS_ENDPOINT_URL_SQS": wire.url} if wire else {})}
    return _processes(
        stack,
        lambda _: (_command(settings), environment),
        count,
        [wire] if wire else [],
    )
