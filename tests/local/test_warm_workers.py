"""Workers of functions: warm by birth, apart from each other, and no more than memory allows."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import threading
import time
import zipfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from local import ROOT
from local.aws import client
from local.cloud import _free_port
from local.emulator import Emulator
from tests.local.conftest import Start

ROLE = "arn:aws:iam::000000000000:role/any"
GAPS = ("bounded_workers", "runtime_api_delay", "warm_workers")
HANDLERS = """
import os, random, secrets, signal, subprocess, sys, threading, time, uuid

kept = []


class SoldOutError(Exception):
    "Nothing is left."


def about(event, context):
    "What a worker is; the event may first change it."
    if "change" in event:
        os.environ["CHANGED"] = "yes"
        os.environ.pop("POWERTOOLS_SERVICE_NAME", None)
        os.chdir("/")
        sys.path.insert(0, "/nowhere")
        sys.modules["services"].changed = True
        kept.append(bytearray(64 * 2**20))
    return {
        "pid": os.getpid(),
        "parent": os.getppid(),
        "group": os.getpgid(0),
        "environment": dict(os.environ),
        "folder": os.getcwd(),
        "path": sys.path,
        "argv": sys.argv,
        "loaded": sorted(sys.modules),
        "changed": hasattr(sys.modules.get("services"), "changed"),
        "kept": len(kept),
        "threads": threading.active_count(),
        "descriptors": sorted(os.listdir("/dev/fd")),
        "chance": [random.random(), secrets.token_hex(), str(uuid.uuid4())],
        "name": __name__,
    }


def wait(event, context):
    time.sleep(event)
    return os.getpid()


def fail(event, context):
    print("on the way to fail")
    raise SoldOutError("row 7")


def leave(event, context):
    "Leave processes behind, and answer, or not."
    fork = os.fork()
    if not fork:
        time.sleep(600)
    spawned = subprocess.Popen(["sleep", "600"])
    with open(event["file"], "w") as file:
        file.write(f"{os.getpid()} {fork} {spawned.pid}")
    time.sleep(event["seconds"])
    if event.get("end"):
        os.kill(os.getpid(), signal.SIGKILL)
    return [fork, spawned.pid]


def nested(event, context):
    "Call oneself, until the event is nothing."
    import json
    from recourse.aws import client

    if event:
        asked = client("lambda", read_timeout=60).invoke(
            FunctionName=context.function_name, Payload=json.dumps(event - 1)
        )
        return 1 + json.load(asked["Payload"])
    return 0
"""


class Functions:
    """Functions of the handlers above, on an emulator."""

    def __init__(self, emulator: Emulator, checkout: Path) -> None:
        self.emulator = emulator
        self.aws = client("lambda", emulator.url)
        self._checkout = checkout
        packed = io.BytesIO()
        with zipfile.ZipFile(packed, "w") as archive:
            archive.write(ROOT / "local" / "runtime" / "bootstrap", "bootstrap")
        self._code = packed.getvalue()

    def add(self, handler: str, *, name: str = "", timeout: int = 20, **variables: str) -> str:
        """A new function; its name."""
        name = name or handler.rpartition(".")[2]
        self.aws.create_function(
            FunctionName=name,
            Runtime="provided.al2023",
            Handler=handler,
            Role=ROLE,
            Code={"ZipFile": self._code},
            Timeout=timeout,
            Environment={"Variables": {"RECOURSE_CHECKOUT": str(self._checkout)} | variables},
        )
        return name

    def call(self, name: str, event: Any = None) -> Any:
        """What it answers, which must be no error."""
        answer = self.aws.invoke(FunctionName=name, Payload=json.dumps(event or {}))
        said = json.load(answer["Payload"])
        assert "FunctionError" not in answer, said
        return said

    def error(self, name: str, event: Any = None) -> dict[str, Any]:
        """The error that it ends with."""
        answer = self.aws.invoke(FunctionName=name, Payload=json.dumps(event or {}))
        said: dict[str, Any] = json.load(answer["Payload"])
        assert "FunctionError" in answer, said
        return said


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """Code of functions, beside the project's own."""
    (tmp_path / "handlers.py").write_text(HANDLERS)
    return tmp_path


@pytest.fixture
def functions(start: Start, checkout: Path) -> Functions:
    return Functions(start(*GAPS), checkout)


def is_alive(pid: int) -> bool:
    """Whether a process is there, and no mere entry that nobody has waited for."""
    said = subprocess.run(["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True)
    return bool(said.stdout.strip()) and not said.stdout.strip().startswith("Z")


def until(is_so: Callable[[], bool]) -> None:
    """Wait for what must come; how long it may take is the test run's own business."""
    ends = time.monotonic() + 60
    while not is_so():
        assert time.monotonic() < ends, "it has not come"
        time.sleep(0.02)
