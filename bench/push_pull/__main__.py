"""`python -m bench.push_pull`: measure push against pull, print the table, put it into the docs."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated

import typer

from bench import ROOT
from bench.figures import say
from bench.push_pull import report
from bench.push_pull.measure import FULL, QUICK, Measurement
from bench.push_pull.paths import BY_KEY, PATHS
from bench.push_pull.place import place
from bench.push_pull.tables import Report

PAGE = ROOT / "docs" / "push-and-pull.md"


def run(
    paths: Annotated[
        list[str] | None, typer.Argument(metavar="[PATH]...", help=f"Of {', '.join(BY_KEY)}.")
    ] = None,
    quick: Annotated[
        bool, typer.Option("--quick", help="Small sizes, and docs stay as they are.")
    ] = False,
) -> None:
    """Measure every path from the feed to an effect, and print the table of push against pull.

    All of them at full size also go into docs/push-and-pull.md. It runs on a local cloud of its
    own; or, where RECOURSE_API and RECOURSE_TOKEN name one and AWS's credentials are in the
    environment, on a stage that was deployed with the context probe=on.
    """
    wanted = [BY_KEY[key] for key in paths] if paths else list(PATHS)
    sizes = QUICK if quick else FULL
    with place() as where:
        measurement = Measurement(where, sizes, wanted)
        measurement.all()
        made = Report(
            measurement.results,
            sizes,
            f"{where.machine}, at {measurement.busy}",
            f"{datetime.now(UTC):%-d %B %Y}",
            measurement.seconds,
            where.assembly,
        )
        text = made.text
    print(text)
    if not quick and not paths:
        report.put(PAGE, text)
        for name, drawn in made.plots().items():
            (PAGE.parent / name).write_text(drawn)
        say(f"written into {PAGE.relative_to(ROOT)}")


def main() -> None:
    """Run what the command line asks for."""
    typer.run(run)


if __name__ == "__main__":
    main()
