"""Build the guide, or the drawings in docs/images/sagas."""

from __future__ import annotations

import subprocess
import sys
import time
from argparse import ArgumentParser
from pathlib import Path

from tests.guide import links, pages

HERE = pages.ROOT / ".local" / "guide"


def build(into: Path) -> Path:
    """Build the guide, and say where it is.

    Raises:
        GuideError: a page, a link, a heading or a diagram is wrong.
    """
    configuration = pages.write(into)
    built = subprocess.run(
        [sys.executable, "-m", "zensical", "build", "--strict", "--config-file", configuration],
        capture_output=True,
        text=True,
        cwd=pages.ROOT,
    )
    if built.returncode:
        raise pages.GuideError(f"the guide is not built:\n{built.stdout}{built.stderr}")
    site = into / "site"
    if wrong := links.broken(site):
        raise pages.GuideError("\n".join(["the guide has wrong links:", *wrong]))
    return site


def draw(*, check: bool) -> None:
    """Write the drawings that pages show; or fail where they are not what they would be."""
    made = pages.drawings()
    if check:
        wrong = [path for path, svg in made.items() if not path.exists() or path.read_text() != svg]
        wrong += [path for path in pages.DRAWINGS.glob("*") if path not in made]
        if wrong:
            named = ", ".join(str(path.relative_to(pages.ROOT)) for path in wrong)
            sys.exit(f"out of date: {named}; run `python -m tests.guide --drawings`")
        return
    pages.DRAWINGS.mkdir(parents=True, exist_ok=True)
    for path in {*pages.DRAWINGS.glob("*")} - made.keys():
        path.unlink()
    for path, svg in made.items():
        path.write_text(svg)


def main(arguments: list[str]) -> None:
    """Do what the command line says."""
    parser = ArgumentParser(prog="python -m tests.guide")
    parser.add_argument("--drawings", action="store_true", help="write docs/images/sagas")
    parser.add_argument("--check", action="store_true", help="with --drawings: only look")
    asked = parser.parse_args(arguments)
    try:
        if asked.drawings:
            draw(check=asked.check)
            return
        began = time.monotonic()
        draw(check=True)
        site = build(HERE)
    except (pages.GuideError, ValueError) as error:
        sys.exit(str(error))
    count = len([*site.rglob("*.html")])
    took = time.monotonic() - began
    print(f"{count} pages in {took:.1f} s: {(site / 'index.html').relative_to(pages.ROOT)}")


if __name__ == "__main__":
    main(sys.argv[1:])
