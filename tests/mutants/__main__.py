"""`python -m tests.mutants`: run the mutants, and say which the tests do not find."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections import Counter
from dataclasses import asdict
from pathlib import Path

from tests.mutants import ROOT, mutants
from tests.mutants.run import Result, run_each


def main() -> int:
    """Run what the command line asks for; 1 where a test or the list has to be mended."""
    parser = argparse.ArgumentParser(prog="python -m tests.mutants", description=__doc__)
    parser.add_argument("--only", default="", help="those whose file or words have this in them")
    parser.add_argument("--alive", action="store_true", help="those that are listed as alive")
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="how many at a time")
    parser.add_argument("--timeout", type=float, default=120, help="seconds for the tests of one")
    parser.add_argument("--all-tests", action="store_true", help="all tests that touch the code")
    parser.add_argument("--json", type=Path, help="a file for the results")
    asked = parser.parse_args()
    chosen = [
        one
        for one in mutants()
        if asked.only in f"{one.file}: {one.what}" and (one.alive or not asked.alive)
    ]
    results = []
    for result in run_each(
        ROOT, chosen, jobs=asked.jobs, timeout=asked.timeout, all_tests=asked.all_tests
    ):
        print(_line(result), flush=True)
        results.append(result)
    if asked.json:
        asked.json.write_text(json.dumps([asdict(one) for one in results], indent=1) + "\n")
    print(_summary(results))
    return int(not results or any(one.is_bad for one in results))


def _line(result: Result) -> str:
    mutant, note = result.mutant, ""
    if result.verdict == "SURVIVED":
        note = " (equivalent)" if mutant.equivalent else " (alive)" if mutant.alive else " (!)"
    elif result.verdict == "KILLED" and mutant.is_argued:
        note = " (listed as if it survived)"
    said = f"\n{'':9} {result.seconds:6.1f} s  {result.detail}" if result.detail else ""
    return f"{result.verdict:9} {mutant.file}: {mutant.what}{note}{said}"


def _summary(results: list[Result]) -> str:
    counts = Counter(one.verdict for one in results)
    survived = [one.mutant for one in results if one.verdict == "SURVIVED"]
    equivalent = sum(bool(one.equivalent) for one in survived)
    alive = sum(bool(one.alive) for one in survived)
    lines = [
        f"{len(results)} mutants: {counts['KILLED']} killed, {alive} alive, "
        f"{equivalent} equivalent, {len(survived) - alive - equivalent} survived unargued, "
        f"{counts['STALE']} stale, {counts['ERROR']} errors"
    ]
    lines += [f"to mend: {_line(one)}" for one in results if one.is_bad]
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
