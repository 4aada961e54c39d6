"""ministack starts each worker from nothing, and a worker that times out leaves what it started.

On AWS a start of these functions takes some 300 ms of one core each; on a laptop all of them share
two, and a first trip needs twenty. So workers of the checkout (those with ``local/runtime``'s
bootstrap) are forked from a process that has loaded what they share: ``local.forkserver``.
"""

import json
import os
import signal
import socket
import subprocess
import threading
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from ministack.core import lambda_runtime

from local import ROOT
from local.forkserver import READ_AT_START
from local.gaps import bounded_workers

ROOT_KEY = "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"
BOOTSTRAP = (ROOT / "local" / "runtime" / "bootstrap").read_bytes()
TRIES = 3
PATIENCE = 60
"""Seconds that a fork may take, the warm process's own start included."""

Environment = dict[str, str]


class Gone(Exception):
    """The warm process, or the worker in the middle of its fork, was killed."""


class Worker:
    """A forked worker, as ministack holds a process: what it calls of ``subprocess.Popen``."""

    def __init__(self, connection: socket.socket, output: int) -> None:
        self.stdout = os.fdopen(output, "rb")
        self.pid = 0
        self.returncode: int | None = None
        self._connection = connection
        self._lock = threading.Lock()

    def begin(self) -> None:
        """Wait until it is there.

        Raises:
            Gone: It never will be.
        """
        self._connection.settimeout(PATIENCE)
        said = self._read().split()
        if said[:1] != ["pid"]:
            self._connection.close()
            self.stdout.close()
            raise Gone(" ".join(said))
        self.pid = int(said[1])

    def poll(self) -> int | None:
        """Its exit code, if it has ended."""
        return self._ended(0)

    def wait(self, timeout: float | None = None) -> int:
        """Its exit code, when it has ended."""
        code = self._ended(timeout)
        if code is None:
            raise subprocess.TimeoutExpired("worker", timeout or 0)
        return code

    def terminate(self) -> None:
        """Ask it, and whatever it has started, to end."""
        self._signal(signal.SIGTERM)

    def kill(self) -> None:
        """End it, and whatever it has started."""
        self._signal(signal.SIGKILL)

    def _signal(self, number: int) -> None:
        if self.poll() is None:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(self.pid, number)

    def _ended(self, timeout: float | None) -> int | None:
        with self._lock:
            if self.returncode is None:
                self._connection.settimeout(timeout)
                try:
                    said = self._read().split()
                except (BlockingIOError, TimeoutError):
                    return None
                self._connection.close()
                # Nobody can say how it ended, or has killed the rest, if the warm process is gone.
                if not said:
                    with suppress(ProcessLookupError, PermissionError):
                        os.killpg(self.pid, signal.SIGKILL)
                self.returncode = int(said[1]) if said else -signal.SIGKILL
            return self.returncode

    def _read(self) -> str:
        """A line; empty where the other end is closed."""
        said = b""
        while not said.endswith(b"\n") and (byte := self._connection.recv(1)):
            said += byte
        return said.decode()


class ForkServer:
    """The warm process, started when first needed and again when it is gone."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._control: socket.socket | None = None

    def fork(self, environment: Environment) -> Worker:
        """A new worker.

        Raises:
            OSError: There is none, however often one was asked for.
        """
        for _ in range(TRIES):
            control = self.start()
            connection, theirs = socket.socketpair()
            output, written = os.pipe()
            asked, ask = os.pipe()
            worker = Worker(connection, output)
            with suppress(OSError):
                socket.send_fds(control, [b"."], [theirs.fileno(), written, asked])
            theirs.close()
            os.close(written)
            os.close(asked)
            with suppress(BrokenPipeError), os.fdopen(ask, "wb") as pipe:
                pipe.write(json.dumps(environment).encode())
            try:
                worker.begin()
                name = environment.get("AWS_LAMBDA_FUNCTION_NAME")
                lambda_runtime.logger.info("process %d is a worker of %s", worker.pid, name)
                return worker
            except Gone as how:
                if not how.args[0]:  # nobody could say how it ended
                    self.replace(control)
        raise OSError("the process that forks workers ends whenever it is started")

    def start(self) -> socket.socket:
        """Its control socket; it loads while the first workers wait for it."""
        with self._lock:
            if self._control is None:
                self._control, theirs = socket.socketpair()
                with theirs:
                    process = subprocess.Popen(
                        [
                            os.environ["RECOURSE_PYTHON"],
                            ROOT / "local" / "forkserver.py",
                            str(theirs.fileno()),
                        ],
                        cwd=os.environ["RECOURSE_CHECKOUT"],
                        # Without the root key: each worker has the session of its function's role.
                        env={n: it for n, it in os.environ.items() if n not in ROOT_KEY},
                        stdin=subprocess.DEVNULL,
                        pass_fds=[theirs.fileno()],
                        # It outlives whoever ends our group, to end its workers.
                        start_new_session=True,
                    )
                threading.Thread(target=process.wait, daemon=True, name="fork-server").start()
            return self._control

    def replace(self, control: socket.socket | None = None) -> None:
        """Start another; this one ends with its last worker.

        Args:
            control: Which one is to be replaced, if it is this one still.
        """
        with self._lock:
            if self._control and control in (None, self._control):
                self._control.close()
                self._control = None
        self.start()


def _at_start(environment: Environment) -> Environment:
    return {name: it for name, it in environment.items() if name.startswith(READ_AT_START)}


def close() -> None:
    """Fork the workers of the checkout, and fork them anew when its code has changed."""
    server = ForkServer()
    server.start()

    def start(command: list[str], **options: Any) -> Any:
        environment = options.get("env") or {}
        if Path(command[0]).read_bytes() != BOOTSTRAP or _at_start(environment) != _at_start(
            dict(os.environ)
        ):
            return subprocess.Popen(command, **options)
        return server.fork(environment)

    lambda_runtime.subprocess = SimpleNamespace(**(vars(subprocess) | {"Popen": start}))
    bounded_workers.on_change(server.replace)
