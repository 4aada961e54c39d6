"""Workers of functions: warm by birth, apart from each other, and no more than memory allows."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import threading
import time
import zipfile
from base64 import b64decode
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.exceptions import BotoCoreError, ClientError

from recourse.local.aws import ACCOUNT, REGION, client
from recourse.local.emulator import Emulator
from tests import ROOT
from tests.local.conftest import ROLE, Start

pytestmark = pytest.mark.xdist_group("emulator")

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
        sys.modules["recourse"].changed = True
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
        "changed": hasattr(sys.modules.get("recourse"), "changed"),
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
    from recourse.store.aws import client

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
            archive.write(ROOT / "recourse" / "cdk" / "runtime" / "bootstrap", "bootstrap")
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
def functions(closed: Emulator, checkout: Path) -> Functions:
    return Functions(closed, checkout)


def is_alive(pid: int) -> bool:
    """Whether a process is there, and no mere entry that nobody has waited for."""
    said = subprocess.run(["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True)
    return bool(said.stdout.strip()) and not said.stdout.strip().startswith("Z")


def children(pid: int) -> list[str]:
    """The processes that a process has."""
    return subprocess.run(["pgrep", "-P", str(pid)], capture_output=True, text=True).stdout.split()


def until(is_so: Callable[[], bool]) -> None:
    """Wait for what must come; how long it may take is the test run's own business."""
    ends = time.monotonic() + 60
    while not is_so():
        assert time.monotonic() < ends, "it has not come"
        time.sleep(0.02)


def pids(file: Path) -> list[int]:
    """The processes that a handler has noted, once it has."""
    until(lambda: file.exists() and len(file.read_text().split()) == 3)
    return [int(pid) for pid in file.read_text().split()]


def test_a_forked_worker_is_what_the_bootstrap_would_have_started(functions: Functions) -> None:
    forked = functions.call(functions.add("handlers.about", ANY="ü = '1'"))
    # What an interpreter reads as it starts cannot be had by a fork.
    started = functions.call(
        functions.add("handlers.about", name="started", ANY="ü = '1'", PYTHONNODEBUGRANGES="1")
    )
    assert started["parent"] == functions.emulator.pid != forked["parent"]
    of_each = {"AWS_LAMBDA_FUNCTION_NAME", "AWS_LAMBDA_LOG_STREAM_NAME", "AWS_LAMBDA_RUNTIME_API"}
    of_each |= {"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"}
    of_the_shell = {"PWD", "OLDPWD", "SHLVL", "_"}
    for worker in (forked, started):
        for name in of_each | of_the_shell | {"PYTHONNODEBUGRANGES"}:
            worker["environment"].pop(name, None)
    # But for the connection to who has forked it.
    assert len(forked.pop("descriptors")) == len(started.pop("descriptors")) + 1
    assert set(forked.pop("loaded")) > set(started.pop("loaded"))
    for worker in (forked, started):
        for name in ("pid", "parent", "group", "chance"):
            del worker[name]
    assert forked == started


def test_a_function_acts_under_its_role_and_finds_no_root_key(functions: Functions) -> None:
    functions.add("handlers.about", name="forked")
    functions.add("handlers.about", name="started", PYTHONNODEBUGRANGES="1")
    for name in ("forked", "started"):
        worker = functions.call(name)
        session = {
            argument: worker["environment"][argument.upper()]
            for argument in ("aws_access_key_id", "aws_secret_access_key", "aws_session_token")
        }
        sts: Any = boto3.client(
            "sts", endpoint_url=functions.emulator.url, region_name=REGION, **session
        )
        who = sts.get_caller_identity()["Arn"]
        assert who == f"arn:aws:sts::{ACCOUNT}:assumed-role/any/{name}"
    forked_by = functions.call("forked")["parent"]
    environment = Path("/proc", str(forked_by), "environ").read_bytes()
    assert b"RECOURSE_CHECKOUT=" in environment and b"AWS_SECRET_ACCESS_KEY=" not in environment


def test_what_a_handler_does_to_its_process_reaches_no_other(functions: Functions) -> None:
    first, second = (functions.add("handlers.about", name=name) for name in ("first", "second"))
    before = functions.call(first, {"change": True})
    again, other = functions.call(first), functions.call(second)
    assert before["pid"] == again["pid"] and again["kept"] == 1 and again["folder"] == "/"
    assert other["parent"] == before["parent"]
    assert not other["changed"] and not other["kept"] and "CHANGED" not in other["environment"]
    assert other["folder"] != "/" and "/nowhere" not in other["path"]
    assert not set(other["chance"]) & {*before["chance"], *again["chance"]}


def test_errors_keep_their_class_and_logs_their_lines(functions: Functions) -> None:
    name = functions.add("handlers.fail")
    said = functions.error(name)
    assert (said["errorType"], said["errorMessage"]) == ("SoldOutError", "row 7")

    def logged() -> str:
        """The lines that came with an answer: a thread of the emulator's reads them beside it."""
        answer = functions.aws.invoke(FunctionName=name, Payload=b"{}", LogType="Tail")
        return b64decode(answer.get("LogResult", "")).decode()

    until(lambda: "on the way to fail" in logged())
    assert (
        functions.error(functions.add("nowhere.handler", name="n"))["errorType"]
        == "Runtime.Unknown"
    )


def test_a_time_out_ends_all_that_the_handler_has_started(
    shipped: Emulator, functions: Functions, checkout: Path, tmp_path: Path
) -> None:
    as_shipped = Functions(shipped, checkout)
    name = as_shipped.add("handlers.leave", timeout=1)
    as_shipped.error(name, {"file": str(tmp_path / "survivors"), "seconds": 600})
    _, *survivors = pids(tmp_path / "survivors")
    assert all(map(is_alive, survivors)), "ministack has closed the gap"
    for pid in survivors:
        os.kill(pid, signal.SIGKILL)

    assert functions.add("handlers.leave", timeout=1) == name
    said = functions.error(name, {"file": str(tmp_path / "pids"), "seconds": 600})
    assert said["errorType"] == "Sandbox.Timedout"
    until(lambda: not any(map(is_alive, pids(tmp_path / "pids"))))
    after = functions.call(name, {"file": str(tmp_path / "after"), "seconds": 0})
    assert not set(after) & set(pids(tmp_path / "pids"))


def test_a_worker_that_dies_takes_with_it_what_it_has_started(
    functions: Functions, tmp_path: Path
) -> None:
    name = functions.add("handlers.leave")
    event = {"file": str(tmp_path / "pids"), "seconds": 0}
    assert functions.error(name, event | {"end": True})["errorType"] == "Runtime.ExitError"
    until(lambda: not any(map(is_alive, pids(tmp_path / "pids"))))
    assert functions.call(name, event)


def test_a_worker_that_is_killed_as_it_starts_is_started_again(
    functions: Functions, checkout: Path
) -> None:
    (checkout / "slow.py").write_text(
        "import os, pathlib, time\n"
        "file = pathlib.Path(__file__).with_name('starts')\n"
        "if not file.exists():\n"
        "    file.write_text(f'{os.getpid()} 0 0')\n"
        "    time.sleep(600)\n"
        "def handler(event, context):\n"
        "    return os.getpid()\n"
    )
    name = functions.add("slow.handler")
    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(functions.call, name)
        killed = pids(checkout / "starts")[0]
        os.kill(killed, signal.SIGKILL)
        assert answer.result() != killed


def test_a_call_goes_on_while_its_function_is_updated(functions: Functions, checkout: Path) -> None:
    """As on AWS: what is deployed is for the calls to come."""
    (checkout / "held.py").write_text(
        "import os, pathlib, time\n"
        "def handler(event, context):\n"
        "    here = pathlib.Path(__file__)\n"
        "    here.with_name('began').write_text(f'{os.getpid()} 0 0')\n"
        "    while event and not here.with_name('go').exists():\n"
        "        time.sleep(0.05)\n"
        "    return [os.getpid(), os.environ.get('RELEASE')]\n"
    )
    name = functions.add("held.handler", RELEASE="1")
    with ThreadPoolExecutor(1) as pool:
        under_way = pool.submit(functions.call, name, {"wait": True})
        (worker, *_) = pids(checkout / "began")
        variables = {"RECOURSE_CHECKOUT": str(checkout), "RELEASE": "2"}
        functions.aws.update_function_configuration(
            FunctionName=name, Environment={"Variables": variables}
        )
        (checkout / "go").touch()
        assert under_way.result() == [worker, "1"]
    assert functions.call(name)[1] == "2"


def test_who_has_forked_may_be_killed(functions: Functions, tmp_path: Path) -> None:
    about, wait = functions.add("handlers.about"), functions.add("handlers.wait")
    leave = functions.add("handlers.leave", timeout=1)
    event = {"file": str(tmp_path / "before"), "seconds": 0}
    functions.call(leave, event)
    before = functions.call(about)
    names = [functions.add("handlers.about", name=f"new-{number}") for number in range(6)]
    with ThreadPoolExecutor(8) as pool:
        under_way = pool.submit(functions.call, wait, 2)
        until(lambda: len(children(before["parent"])) == 3)
        os.kill(before["parent"], signal.SIGKILL)
        new = list(pool.map(functions.call, names))
        assert under_way.result()
    assert len({one["parent"] for one in new} - {before["parent"]}) == 1
    assert functions.call(about)["pid"] == before["pid"], "a worker does its work without it"
    # Nobody else can end what this one leaves.
    assert functions.error(leave, {"file": str(tmp_path / "after"), "seconds": 600})
    until(lambda: not any(map(is_alive, pids(tmp_path / "after"))))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_workers_end_with_the_emulator(start: Start, checkout: Path, number: int) -> None:
    functions = Functions(start(*GAPS), checkout)
    worker = functions.call(functions.add("handlers.about"))
    os.kill(functions.emulator.pid, number)
    until(lambda: not is_alive(worker["pid"]) and not is_alive(worker["parent"]))


def test_forty_functions_are_called_for_the_first_time_at_once(functions: Functions) -> None:
    names = [functions.add("handlers.wait", name=f"f{number}") for number in range(40)]
    with ThreadPoolExecutor(40) as pool:
        found = list(pool.map(lambda name: functions.call(name, 0.01), names))
    assert len(set(found)) == 40


def test_calls_beyond_the_bound_wait(start: Start, checkout: Path) -> None:
    functions = Functions(start(*GAPS, workers=3), checkout)
    name = functions.add("handlers.wait", timeout=60)
    with ThreadPoolExecutor(30) as pool:
        found = list(pool.map(lambda _: functions.call(name, 0.05), range(30)))
    assert len(set(found)) <= 3


def test_idle_workers_make_room_for_others(start: Start, checkout: Path) -> None:
    functions = Functions(start(*GAPS, workers=2), checkout)
    names = [functions.add("handlers.wait", name=f"f{number}") for number in range(5)]
    found = [functions.call(name, 0.01) for name in names]
    until(lambda: [is_alive(pid) for pid in found] == [False, False, False, True, True])
    assert functions.call(names[4], 0.01) == found[4]
    assert functions.call(names[0], 0.01) != found[0]


def test_functions_that_wait_for_functions_are_not_kept_from_them(
    start: Start, checkout: Path
) -> None:
    functions = Functions(start(*GAPS, workers=1), checkout)
    name = functions.add("handlers.nested", timeout=60)
    with ThreadPoolExecutor(2) as pool:
        assert list(pool.map(lambda _: functions.call(name, 2), range(2))) == [2, 2]


def test_a_worker_that_nobody_needs_ends(
    start: Start, checkout: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LAMBDA_WARM_TTL_SECONDS", "1")
    functions = Functions(start(*GAPS), checkout)
    name = functions.add("handlers.about")
    before = functions.call(name)
    until(lambda: not is_alive(before["pid"]))
    after = functions.call(name)
    assert after["parent"] == before["parent"] and after["pid"] != before["pid"]


def test_the_code_is_that_of_the_checkout_as_it_is_now(start: Start, checkout: Path) -> None:
    shared, own = checkout / "services" / "shared.py", checkout / "lambdas" / "own.py"
    for file in (shared, own):
        file.parent.mkdir()
        (file.parent / "__init__.py").touch()
        file.write_text("VERSION = 1\n")
    (checkout / "both.py").write_text(
        "import os, time, lambdas.own, services.shared\n"
        "def handler(seconds, context):\n"
        "    time.sleep(seconds)\n"
        "    return [lambdas.own.VERSION, services.shared.VERSION, os.getppid(), os.getpid()]\n"
    )
    emulator = start(*GAPS, checkout=checkout, packages=("services", "lambdas"))
    functions = Functions(emulator, checkout)
    name = functions.add("both.handler")
    first = functions.call(name, 0.01)
    assert first[:2] == [1, 1]
    with ThreadPoolExecutor(1) as pool:
        under_way = pool.submit(functions.call, name, 3)
        shared.write_text("VERSION = 2  # and longer\n")
        until(lambda: functions.call(name, 0.01)[:2] == [1, 2])
        # Whoever was under way has ended with what it had begun with, and does not come back.
        assert under_way.result()[:2] == [1, 1]
    own.write_text("VERSION = 2  # and longer\n")
    until(lambda: functions.call(name, 0.01)[:2] == [2, 2])
    assert all(functions.call(name, 0.01)[:2] == [2, 2] for _ in range(5))
    until(lambda: not is_alive(first[2]) and not is_alive(first[3]))


def test_a_module_that_cannot_be_loaded_fails_its_own_function_alone(
    start: Start, checkout: Path
) -> None:
    (checkout / "services").mkdir()
    (checkout / "services" / "__init__.py").touch()
    (checkout / "services" / "broken.py").write_text("def (")
    (checkout / "broken.py").write_text("import services.broken")
    emulator = start(*GAPS, checkout=checkout, packages=("services",))
    functions = Functions(emulator, checkout)
    assert "SyntaxError" in str(functions.error(functions.add("broken.handler")))
    assert functions.call(functions.add("handlers.about"))


def test_a_module_that_reads_its_environment_on_import_has_that_of_its_function(
    start: Start, checkout: Path
) -> None:
    services = checkout / "services"
    services.mkdir()
    for name, text in {
        "__init__": "",
        "a_reader_of": "from services.told import TOLD\n",
        "told": "import os\nTOLD = os.environ.get('TOLD')\n",
        "untold": "",
    }.items():
        (services / f"{name}.py").write_text(text)
    (checkout / "tells.py").write_text(
        "import sys\n"
        "shared = 'services.untold' in sys.modules\n"
        "from services.a_reader_of import TOLD\n"
        "def handler(event, context):\n    return [TOLD, shared]\n"
    )
    emulator = start(*GAPS, checkout=checkout, packages=("services",))
    functions = Functions(emulator, checkout)
    for told in ("one", "other"):
        name = functions.add("tells.handler", name=told, TOLD=told)
        assert functions.call(name) == [told, True]


def test_the_emulator_is_restarted_under_load(start: Start, checkout: Path) -> None:
    functions = Functions(start(*GAPS), checkout)
    names = [functions.add("handlers.about", name=f"f{number}") for number in range(6)]
    over, seen = threading.Event(), []

    def call(name: str) -> int:
        served = 0
        while not over.is_set():
            with suppress(BotoCoreError, ClientError, AssertionError):
                seen.append(functions.call(name))
                served += 1
        return served

    with ThreadPoolExecutor(len(names)) as pool:
        calls = [pool.submit(call, name) for name in names]
        until(lambda: len(seen) > 20)
        functions.emulator.stop()
        before = list(seen)
        seen.clear()
        functions.emulator.start()
        until(lambda: len(seen) > 20)
        over.set()
        assert all(one.result() for one in calls)
    until(lambda: not any(is_alive(one["pid"]) or is_alive(one["parent"]) for one in before))


READS = """
import os, sys, threading
from recourse.local import forkserver

reads, known = set(), (*forkserver.READ_AT_START, "HOME", "SPHINX_BUILD", "RECOURSE_PACKAGES")
os.environ["RECOURSE_PACKAGES"] = "services statemachines"

class Watched(os._Environ):
    def __getitem__(self, name):
        frame = sys._getframe(1)
        # A session and clients of botocore's are made and thrown away.
        while frame and "/botocore/" not in frame.f_code.co_filename:
            frame = frame.f_back
        if not frame and not name.startswith(known):
            reads.add(name)
        return super().__getitem__(name)

os.environ.__class__ = Watched
forkserver.load()
mine = [name for name in sys.modules if name.split(".")[0] == "recourse"]
handlers = [
    name
    for name, module in sys.modules.items()
    if name.startswith(("lambdas", "recourse.functions.")) and not hasattr(module, "__path__")
]
print(sorted(reads), threading.active_count(), len(mine) > 50, handlers, "aws_cdk" in sys.modules)
"""


def test_what_is_shared_reads_no_other_environment_and_starts_no_thread() -> None:
    done = subprocess.run([sys.executable, "-c", READS], cwd=ROOT, capture_output=True, text=True)
    assert (done.stdout.strip(), done.stderr) == ("[] 1 True [] False", "")
