"""`python -m bench`: the benchmarks, as tables; it fails where a bound is missed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated

import typer
from rich.console import Console

from bench import (
    calls,
    choreography,
    cloud,
    conserve,
    console,
    cost,
    ground,
    imports,
    live,
    recovery,
    rights,
    runtime,
    scale,
    startup,
    states,
    timers,
    trip,
    up,
    valet,
    worker,
)
from bench.figures import Figure, say, show

WIDTH = 140
"""Columns that a table needs to be read."""
BENCHMARKS: dict[str, Callable[[], list[Figure]]] = {
    "calls": calls.measure,
    "states": states.measure,
    "scale": scale.measure,
    "startup": startup.measure,
    "runtime": runtime.measure,
    "ground": ground.measure,
    "cloud": cloud.measure,
    "imports": imports.measure,
    "rights": rights.measure,
    "cost": cost.measure,
    "trip": trip.measure,
    "choreography": choreography.measure,
    "valet": valet.measure,
    "worker": worker.measure,
    "console": console.measure,
    "live": live.measure,
    "recovery": recovery.measure,
    "timers": timers.measure,
    "conserve": conserve.measure,
    "up": up.measure,
}
"""Every benchmark: one file each, and one line here."""


def _about(measure: Callable[[], list[Figure]]) -> str:
    return (measure.__doc__ or "").strip().splitlines()[0]


def run(
    names: Annotated[
        list[str] | None,
        typer.Argument(metavar="NAME", help="Benchmarks to run; all by default."),
    ] = None,
) -> None:
    """Run benchmarks and print their figures, as ratios measured in one run."""
    unknown = [name for name in names or () if name not in BENCHMARKS]
    if unknown:
        raise typer.BadParameter(
            f"must be one of {', '.join(BENCHMARKS)}, got {', '.join(unknown)}"
        )
    console = Console(highlight=False)
    console.width = max(console.width, WIDTH)
    missed = []
    for name in names or BENCHMARKS:
        say(f"{name}: {_about(BENCHMARKS[name])}")
        figures = BENCHMARKS[name]()
        show(console, name, figures)
        missed += [
            f"{name}: {one.what}: {one.ratio:.2f}, {one.bound}"
            for one in figures
            if not one.is_kept
        ]
    for one in missed:
        console.print(f"[red]missed[/] {one}")
    raise typer.Exit(1 if missed else 0)


def main() -> None:
    """Run what the command line asks for."""
    lines = "\n\n".join(f"{name}: {_about(measure)}" for name, measure in BENCHMARKS.items())
    app = typer.Typer(add_completion=False)
    app.command(epilog=lines)(run)
    app()


if __name__ == "__main__":
    main()
