"""Projects of their own, in an empty folder: a shop whose services are elsewhere than ours."""

from __future__ import annotations

import atexit
import json
import os
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
ITEMS = '''
from dataclasses import dataclass
from recourse import AtLeast, Call, Decision, Put, Refusal, Update, action, undo

@dataclass(frozen=True, kw_only=True)
class ItemAsk:
    item: str

class SoldOutError(Refusal):
    """None is left."""

@action(ItemAsk, reads=lambda call: [f"item#{call.ask.item}"], refuses=[SoldOutError])
def reserve(call: Call[ItemAsk]) -> Decision:
    item = call.item
    if item is None or item["free"] < 1:
        raise SoldOutError("none is left")
    return Decision(result={"item": item["pk"]}, writes=[
        Update(item["pk"], add={"free": -1}, when={"free": AtLeast(1)}),
        Put({"pk": f"order#{call.saga_id}", "item": item["pk"], "status": "HELD"}),
    ])

@undo(reads=lambda call: [f"order#{call.saga_id}"])
def release(call: Call) -> Decision:
    return Decision(writes=[
        Update(call.item["pk"], put={"status": "RELEASED"}, when={"status": "HELD"}),
        Update(call.item["item"], add={"free": 1}),
    ])
'''
MONEY = """
import uuid
from recourse import Call, Decision, Put, action, undo
from elsewhere import BOOKS

@action(external=True)
def charge(call: Call) -> Decision:
    BOOKS.setdefault(call.saga_id, 100)
    return Decision(result={"charge": call.saga_id})

@undo(external=True)
def refund(call: Call) -> Decision:
    BOOKS.pop(call.saga_id, None)
    return Decision()

@action()
def ship(call: Call) -> Decision:
    return Decision(writes=[Put({"pk": f"parcel#{call.saga_id}"})])
"""
DECLARED = """
from warehouse import items, money
from recourse import Saga, Step, collect, request_model

@request_model
class Order:
    order: str
    item: str

ORDER = Saga("purchase", request=Order, business_key="order", steps=[
    Step("item", items.reserve, undo=items.release, takes=["item"]),
    Step("money", money.charge, undo=money.refund),
    Step("ship", money.ship, pivot=True),
])
SAGAS = collect(ORDER)
"""
CHECKS = """
from elsewhere import BOOKS

def stock(ground):
    BOOKS.clear()
    ground.add("items", {"pk": "item#tea", "free": 10})

def at_rest_every_purchase_is_paid_once(ground):
    paid = [row["pk"] for row in ground.rows("money", "parcel#")]
    assert sum(BOOKS.values()) == 100 * len(paid), f"{BOOKS} for {paid}"
"""
FILES = {
    "pyproject.toml": '[tool.recourse]\nsagas = "declared:SAGAS"\npackages = ["warehouse"]\n'
    'requirements = "requirements.lock"\ntesting = "checks_of_mine"\n',
    "warehouse/__init__.py": "",
    "warehouse/items.py": ITEMS,
    "warehouse/money.py": MONEY,
    "elsewhere.py": "BOOKS = {}\n",
    "declared.py": DECLARED,
    "checks_of_mine.py": CHECKS,
    "samples/purchase.json": json.dumps({"order": "o-1", "item": "tea"}),
}


def write(folder: Path, *changes: tuple[str, str, str], files: Mapping[str, str] = FILES) -> Path:
    """Write a project; each change is a file, a text in it, and what stands there instead."""
    made = dict(files)
    for name, old, new in changes:
        assert old in made[name], f"{old!r} is not in {name}"
        made[name] = made[name].replace(old, new)
    for name, text in made.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    _install_plugin(folder)
    return folder


def _install_plugin(folder: Path) -> None:
    """Let pytest find the plugin by the entry point that pyproject.toml has."""
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["entry-points"]
    info = folder / "probe-1.dist-info"
    info.mkdir(exist_ok=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: probe\nVersion: 1\n")
    lines = [f"{name} = {where}" for name, where in declared["pytest11"].items()]
    (info / "entry_points.txt").write_text("[pytest11]\n" + "\n".join(lines) + "\n")


def pytest_in(folder: Path, *args: str) -> subprocess.CompletedProcess[str]:
    """Run pytest in a project, as its author does: at a desk, where pytest tells a failure once."""
    arguments = ["-q", "-p", "no:cacheprovider", "-p", "no:schemathesis", *args]
    with tempfile.TemporaryDirectory() as kept:
        asked: dict[str, Any] = {
            "folder": str(folder),
            "environment": _environment(folder),
            "arguments": arguments,
            "stdout": f"{kept}/stdout",
            "stderr": f"{kept}/stderr",
        }
        ready = _ready()
        assert ready.stdin and ready.stdout
        ready.stdin.write(json.dumps(asked) + "\n")
        ready.stdin.flush()
        code = int(ready.stdout.readline())
        said = [Path(asked[name]).read_text() for name in ("stdout", "stderr")]
    return subprocess.CompletedProcess(arguments, code, *said)


def pytest_alone_in(folder: Path, *args: str) -> subprocess.CompletedProcess[str]:
    """The same in a process that has loaded nothing before, and hashes texts otherwise."""
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *args],
        cwd=folder,
        env=_environment(folder),
        capture_output=True,
        text=True,
    )


def _environment(folder: Path) -> dict[str, str]:
    ours = {name: value for name, value in os.environ.items() if name not in {"CI", "BUILD_NUMBER"}}
    path = os.pathsep.join([str(folder), str(ROOT)])
    return {**ours, "PYTHONPATH": path, "PYTHONDONTWRITEBYTECODE": "1"}


@cache
def _ready() -> subprocess.Popen[str]:
    """The process that runs them, which ends with this one."""
    process = subprocess.Popen(
        [sys.executable, Path(__file__).with_name("ready.py")],
        cwd=Path(__file__).parent,
        env=_environment(ROOT),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    atexit.register(process.communicate)  # the end of its input is its end
    return process
