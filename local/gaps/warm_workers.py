"""ministack starts each worker from scratch, and leaves the child processes of a timed-out worker.

A cold start of these functions takes some 300 ms of a core. On AWS each has its own; on a laptop
all share two, and a first trip needs twenty workers. So workers of the checkout (those with the
bootstrap of ``recourse/cdk/runtime``) are forked from a process that has loaded what they share:
``local.forkserver``.
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
"""Seconds that a fork may take, including the start of the warm process."""

Environment = dict[str, str]


class Gone(Exception):
    """The warm process, or the worker during its fork, was killed."""


class Worker:
    """A forked worker with the part of ``subprocess.Popen`` that ministack uses."""

    def __init__(self, connection: socket.socket, output: int) -> None:
        self.stdout = os.fdopen(output, "rb")
        self.pid = 0
        self.returncode: int | None = None
        self._connection = connection
        self._lock = threading.Lock()

    def begin(self) -> None:
        """Wait until it runs.

        Raises:
            Gone: It was killed before.
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
        """Ask it and the processes it has started to end."""
        self._signal(signal.SIGTERM)

    def kill(self) -> None:
        """Kill it and the processes it has started."""
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
                # Without the warm process there is no exit code, and the group must be killed.
                if not said:
                    with suppress(ProcessLookupError, PermissionError):
                        os.killpg(self.pid, signal.SIGKILL)
                self.returncode = int(said[1]) if said else -signal.SIGKILL
            return self.returncode

    def _read(self) -> str:
        """A line; empty if the other end is closed."""
        said = b""
        while not said.endswith(b"\n") and (byte := self._connection.recv(1)):
            said += byte
        return said.decode()


class ForkServer:
    """The warm process, started when first needed and restarted when it has ended."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._control: socket.socket | None = None

    def fork(self, environment: Environment) -> Worker:
        """A new worker.

        Raises:
            OSError: The warm process ended each time.
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
                if not how.args[0]:  # no exit code: the warm process itself has ended
                    self.replace(control)
        raise OSError(f"the process that forks workers has ended {TRIES} times")

    def start(self) -> socket.socket:
        """Its control socket; the first workers wait while it loads."""
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
                        # Without the root key: each worker gets a session of its function's role.
                        env={n: it for n, it in os.environ.items() if n not in ROOT_KEY},
                        stdin=subprocess.DEVNULL,
                        pass_fds=[theirs.fileno()],
                        # It must outlive our process group, to end its workers.
                        start_new_session=True,
                    )
                threading.Thread(target=process.wait, daemon=True, name="fork-server").start()
            return self._control

    def replace(self, control: socket.socket | None = None) -> None:
        """Start a new one; the current one ends with its last worker.

        Args:
            control: Replace only the one with this control socket.
        """
        with self._lock:
            if self._control and control in (None, self._control):
                self._control.close()
                self._control = None
        self.start()


def _at_start(environment: Environment) -> Environment:
    return {name: it for name, it in environment.items() if name.startswith(READ_AT_START)}


def close() -> None:
    """Fork the workers of the checkout; after a change of code, from a new warm process."""
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
