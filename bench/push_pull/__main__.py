"""`python -m bench.push_pull`: measure push against pull, print the table, put it into the docs."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated

import typer

from bench.figures import say
from bench.push_pull.measure import FULL, QUICK, Measurement, as_json
from bench.push_pull.paths import BY_KEY, PATHS
from bench.push_pull.place import FOLDER, place


def run(
    paths: Annotated[
        list[str] | None, typer.Argument(metavar="[PATH]...", help=f"Of {', '.join(BY_KEY)}.")
    ] = None,
    quick: Annotated[bool, typer.Option("--quick", help="Three minutes, not twenty-five.")] = False,
) -> None:
    """Measure every path from the feed to an effect, and print the table of push against pull."""
    wanted = [BY_KEY[key] for key in paths] if paths else list(PATHS)
    sizes = QUICK if quick else FULL
    with place() as where:
        measurement = Measurement(where, sizes, wanted)
        measurement.all()
        FOLDER.mkdir(parents=True, exist_ok=True)
        (FOLDER / "results.json").write_text(as_json(measurement.results))
    say(f"measured at {datetime.now(UTC):%Y-%m-%d %H:%M}")


if __name__ == "__main__":
    typer.run(run)
