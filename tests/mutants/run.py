"""Runs mutants: each in a private copy of the tree, against its tests.

What the tests import from others is imported once; each run is a fork of the process that has it.
"""

from __future__ import annotations

import itertools
import multiprocessing
import os
import re
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue
from typing import Literal

from tests.mutants import Mutant, StaleError

Verdict = Literal["KILLED", "SURVIVED", "STALE", "ERROR"]
OPTIONS = ("-x", "-q", "--tb=no", "-n", "0", "-p", "tests.mutants.unshrunk", "-p", "no:recourse")
# Pytest would rewrite the assertions of its plugins; these are imported already.
IGNORED = ("-W", "ignore::pytest.PytestAssertRewriteWarning")
IMPORTED_ONCE = ["pytest", "schemathesis.pytest", "moto.stepfunctions.parser.models", "uvicorn"]
_NOT_COPIED = shutil.ignore_patterns(".*", "__pycache__", "node_modules", "cdk.out", "*.egg-info")
_PASSED, _FAILED = 0, 1
_versions = itertools.count(1)


@dataclass(frozen=True, kw_only=True, slots=True)
class Result:
    """What became of a mutant.

    Attributes:
        mutant: The mutant.
        verdict: `KILLED` where a test failed; `SURVIVED` where all passed; `STALE` where the entry
            does not fit the code; `ERROR` where the tests did not run, or not to their end.
        detail: The test that killed it, or what went wrong.
        seconds: How long it took.
    """

    mutant: Mutant
    verdict: Verdict
    detail: str
    seconds: float

    @property
    def is_bad(self) -> bool:
        """Whether the list, or a test, has to be mended."""
        if self.verdict == "SURVIVED":
            return not self.mutant.is_argued
        return self.verdict != "KILLED"


def run_each(
    root: Path, mutants: Sequence[Mutant], *, jobs: int, timeout: float, all_tests: bool = False
) -> Iterator[Result]:
    """Run mutants, several at a time; each result as it is there.

    Args:
        root: The tree; it is copied, and never written to.
        mutants: Which.
        jobs: How many at a time.
        timeout: Seconds that the tests of one may take.
        all_tests: Whether to run all tests that touch the code, after the mutant's own.
    """
    with tempfile.TemporaryDirectory(prefix="mutants-", ignore_cleanup_errors=True) as folder:
        trees: SimpleQueue[Path] = SimpleQueue()
        for number in range(jobs):
            tree = Path(folder) / str(number)
            shutil.copytree(root, tree, ignore=_NOT_COPIED)
            trees.put(tree)

        def run(mutant: Mutant) -> Result:
            tree = trees.get()
            begun = time.monotonic()
            try:
                verdict, detail = _run(tree, mutant, timeout, all_tests)
            finally:
                trees.put(tree)
            seconds = round(time.monotonic() - begun, 1)
            return Result(mutant=mutant, verdict=verdict, detail=detail, seconds=seconds)

        with ThreadPoolExecutor(jobs) as pool:
            for done in as_completed([pool.submit(run, mutant) for mutant in mutants]):
                yield done.result()


def _run(tree: Path, mutant: Mutant, timeout: float, all_tests: bool) -> tuple[Verdict, str]:
    try:
        changed = mutant.applied(tree)
        mutant.check_tests(tree)
    except StaleError as problem:
        return "STALE", str(problem)
    path = tree / mutant.file
    text = path.read_text()
    _write(path, changed)
    try:
        return _verdict(tree, (*mutant.tests, *(mutant.tiers if all_tests else ())), timeout)
    finally:
        _write(path, text)


def _write(path: Path, text: str) -> None:
    """Write a version of a module; no two have the time by which Python knows its compiled file."""
    path.write_text(text)
    os.utime(path, (moment := next(_versions), moment))


def _verdict(tree: Path, tests: Sequence[str], timeout: float) -> tuple[Verdict, str]:
    forks = multiprocessing.get_context("forkserver")
    forks.set_forkserver_preload(IMPORTED_ONCE)
    said = tree.with_suffix(".log")
    said.write_text("")
    child = forks.Process(target=_pytest, args=(tree, tests, said))
    child.start()
    child.join(timeout)
    has_ended = child.exitcode is not None
    assert child.pid is not None
    try:
        os.killpg(child.pid, signal.SIGKILL)  # with whatever its tests have started
    except ProcessLookupError:
        child.kill()
    child.join()
    if not has_ended:
        return "ERROR", f"no end within {timeout:g} s"
    if child.exitcode == _PASSED:
        return "SURVIVED", ""
    text = said.read_text()
    failed = re.search(r"^(?:FAILED|ERROR) (.+?)(?: - |$)", text, re.MULTILINE)
    if child.exitcode == _FAILED and failed:
        return "KILLED", failed[1]
    last = " / ".join(text.strip().splitlines()[-3:])
    return "ERROR", f"pytest ended with {child.exitcode}: {last}"


def _pytest(tree: Path, tests: Sequence[str], said: Path) -> None:
    """Run tests of a tree in this process, which is good for nothing else."""
    os.setsid()
    with said.open("wb") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    os.chdir(tree)
    os.environ["PYTHONPATH"] = str(tree)
    sys.dont_write_bytecode, sys.pycache_prefix = False, str(tree / "__pycache__")
    # This very module came from another tree, and in this one `tests` means another package.
    sys.path[:] = [str(tree), *(one for one in sys.path if not _is_ours(one))]
    for name in [name for name in sys.modules if name.partition(".")[0] == "tests"]:
        del sys.modules[name]
    import pytest

    code = pytest.main([*OPTIONS, *IGNORED, *tests])
    sys.stdout.flush()
    os._exit(code)


def _is_ours(path: str) -> bool:
    return (Path(path or ".") / "tests" / "mutants").is_dir()
