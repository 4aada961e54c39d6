"""`recourse resolve`: an operator's decision on one stuck step, or on all that wait alike."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Annotated, Any, Literal

import typer
from rich.table import Table

from recourse.cli.api import segment
from recourse.cli.bulk import OUTCOMES, Bulk, Found, Parked, StoppedShortError, find
from recourse.cli.command import (
    LOCAL,
    ApiUrl,
    AsJson,
    Token,
    connected,
    err,
    out,
    skipping,
)
from recourse.cli.exits import Exit, UsageError
from recourse.cli.json_output import print_json
from recourse.cli.screen import identity
from recourse.cli.visible import visible
from recourse.cli.where import Where

SHOWN = 20
"""How many sagas a dry run names."""


def resolve(
    action: Annotated[
        Literal["retry", "skip"],
        typer.Option(help="Run the step again, or leave it as it is and settle it by hand."),
    ],
    saga_id: Annotated[str | None, typer.Argument(help="The saga's id.")] = None,
    step: Annotated[str | None, typer.Argument(help="Name of the stuck step.")] = None,
    where: Annotated[
        list[str] | None,
        typer.Option(
            metavar="FILTERS",
            help="Instead of one saga, all that wait and match: name=value, separated by commas, "
            "of status, saga, step, error, business_key, older_than and younger_than (30m, 2h, 3d "
            "or a moment, by the saga's start).",
        ),
    ] = None,
    reason: Annotated[
        str | None, typer.Option(help="Why; required for a skip, and kept with the saga.")
    ] = None,
    yes: Annotated[
        bool, typer.Option("--yes", help="With --where: do it; else only show what would be done.")
    ] = False,
    limit: Annotated[
        int,
        typer.Option(min=1, help="With --where: most sagas to resolve, the longest stuck first."),
    ] = 100,
    examine: Annotated[
        int, typer.Option(min=1, help="With --where: most sagas to look at, the newest first.")
    ] = 10_000,
    rate: Annotated[
        float, typer.Option(min=0.1, max=100, help="With --where: most sagas to ask for a second.")
    ] = 5,
    wait: Annotated[
        int, typer.Option(min=0, help="With --where: seconds to wait for the last of them.")
    ] = 300,
    api: ApiUrl = LOCAL,
    token: Token = None,
    as_json: AsJson = False,
) -> None:
    """Retry a stuck step, or skip it and settle by hand; needs the scope `operator`.

    With --where, all sagas that wait and match: it shows what it would do, and does it with --yes.
    What is accepted is followed until its step has moved, and only then called resolved. Run again,
    it goes on, and does nothing twice.

    Example: recourse resolve --where status=COMPENSATION_FAILED,step=payment --action retry

    Exit codes with --where: 0 all resolved, or shown; 3 some not resolved; 4 some still under way,
    or left by --limit or --examine; 130 interrupted; others as for all commands (docs/cli.md), and
    nothing was done.
    """
    if action == "skip" and not (reason or "").strip():
        raise UsageError("--reason must be given for a skip: it is kept with the saga")
    decision = {"action": action} | ({"reason": reason} if reason else {})
    if where is None:
        if saga_id is None or step is None:
            raise UsageError("give a saga's id and the name of its stuck step, or --where")
        with connected(api, token) as client:
            path = f"/sagas/{segment(saga_id)}/steps/{segment(step)}/resolve"
            saga = client.ask("POST", path, json=decision)
        if as_json:
            print_json(saga)
        else:
            out.print(f"{saga['saga_id']} {saga['status']}")
        return
    if saga_id is not None:
        raise UsageError("give either a saga's id and a step, or --where")
    wanted = Where.parse(where, now=datetime.now(UTC))
    with connected(api, token) as client:
        found = find(client, wanted, most=examine, skipping=skipping)
        if wanted.step and found.looked_at and wanted.step not in found.steps:
            names = visible(", ".join(sorted(found.steps)))
            raise UsageError(
                f"--where: step must be one that a saga has: none of the {found.looked_at} that "
                f"were looked at has {wanted.step!r}, but {names}"
            )
        chosen = found.meant[:limit]
        if not yes:
            _show(found, chosen, action, as_json)
            return
        bulk = Bulk(client, wanted, decision, rate=rate, wait=wait, say=_progress)
        stopped, code = "", Exit.OK
        try:
            bulk.resolve(chosen)
        except StoppedShortError as problem:
            stopped, code = str(problem), Exit.PARTLY
        except KeyboardInterrupt:
            stopped, code = "interrupted", Exit.INTERRUPTED
    _report(found, chosen, stopped, as_json)
    raise typer.Exit(code or _exit_code(found, chosen))


def _progress(line: str) -> None:
    if err.is_terminal:
        err.print(line)


def _exit_code(found: Found, chosen: Sequence[Parked]) -> Exit:
    outcomes = {one.outcome for one in chosen}
    if outcomes - {"resolved", "passed_over", "accepted"}:
        return Exit.PARTLY
    is_left = len(chosen) < len(found.meant) or not found.is_all
    return Exit.UNDER_WAY if is_left or "accepted" in outcomes else Exit.OK


def _groups(sagas: Sequence[Parked]) -> Counter[tuple[str, str, str, str]]:
    """How many steps there are of each kind: by saga, status, step and error."""
    return Counter(
        (one.saga, one.status, step.step, step.error) for one in sagas for step in one.steps
    )


def _told(found: Found, chosen: Sequence[Parked], **more: Any) -> str:
    groups = [
        dict(zip(("saga", "status", "step", "error", "count"), (*kind, count), strict=True))
        for kind, count in _groups(found.meant).most_common()
    ]
    sagas = [
        {
            "saga_id": one.saga_id,
            "saga": one.saga,
            "status": one.status,
            "steps": [step._asdict() for step in one.steps],
            "outcome": one.outcome,
            "why": one.why or None,
        }
        for one in chosen
    ]
    looked = {"looked_at": found.looked_at, "is_all": found.is_all, "matched": len(found.meant)}
    return json.dumps({**more, **looked, "groups": groups, "sagas": sagas})


def _show(found: Found, chosen: Sequence[Parked], action: str, as_json: bool) -> None:
    """Print what would be done."""
    if as_json:
        print(_told(found, chosen, dry_run=True, action=action))
        return
    if not found.meant:
        _print_kinds("nothing that waits matches; what waits is", found.others)
    else:
        _print_kinds(f"would {action}, of {len(found.meant)} sagas", _groups(found.meant))
        table = Table(identity("id"), "saga", "steps", "since")
        for one in chosen[:SHOWN]:
            names = ", ".join(step.step for step in one.steps)
            table.add_row(one.saga_id, one.saga, names, one.since)
        out.print_table(table)
        if len(chosen) > SHOWN:
            out.print(f"and {len(chosen) - SHOWN} more, which --json names")
        out.print(f"nothing was done: --yes does {action} {len(chosen)} of {len(found.meant)}")
    _say_what_is_left(found, chosen)


def _report(found: Found, chosen: Sequence[Parked], stopped: str, as_json: bool) -> None:
    """Print what was done."""
    if as_json:
        print(_told(found, chosen, dry_run=False, stopped=stopped or None))
    elif not found.meant:
        _print_kinds("nothing that waits matches; what waits is", found.others)
    else:
        table = Table(identity("id"), "saga", "steps", "outcome", "status", "why")
        for one in chosen:
            assert one.outcome is not None
            names = ", ".join(step.step for step in one.steps)
            outcome = OUTCOMES[one.outcome]
            table.add_row(one.saga_id, one.saga, names, outcome, one.status, one.why)
        out.print_table(table)
        counts = Counter(one.outcome for one in chosen)
        said = (f"{counts[name]} {text}" for name, text in OUTCOMES.items() if counts[name])
        out.print("; ".join(said))
    if not as_json:
        _say_what_is_left(found, chosen)
    if stopped:
        err.print(f"recourse: stopped: {stopped}", style="red")
        err.print("run it again to go on: what is resolved or under way is left alone")


def _print_kinds(title: str, kinds: Counter[tuple[str, str, str, str]]) -> None:
    if not kinds:
        out.print("nothing waits for an operator")
        return
    out.print(f"{title}:")
    table = Table("steps", identity("saga"), "status", "step", "error")
    for kind, count in kinds.most_common():
        table.add_row(str(count), *kind)
    out.print_table(table)


def _say_what_is_left(found: Found, chosen: Sequence[Parked]) -> None:
    if len(chosen) < len(found.meant):
        more = len(found.meant) - len(chosen)
        out.print(f"{more} more match: run it again, or with a higher --limit")
    if not found.is_all:
        out.print(f"only {found.looked_at} sagas were looked at: --examine looks at more")
