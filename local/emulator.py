"""Starts and stops ministack, the AWS emulator of the local cloud."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterable
from pathlib import Path

import httpx

from local import LOCAL, ROOT, LocalCloudError, private, signals
from local.aws import environment
from local.boot import GAPS

INTERPRETER = LOCAL / "ministack" / "bin" / "python"
STARTUP_SECONDS = 120
"""How long it may take until it answers: it is a few seconds unless the machine is busy."""


class EmulatorError(LocalCloudError):
    """The emulator did not start; the message says why."""


class Emulator:
    """A ministack process on loopback that keeps its state in ``folder`` between runs."""

    def __init__(
        self,
        *,
        port: int,
        folder: Path,
        timescale: float = 1.0,
        gaps: Iterable[str] = GAPS,
        checkout: Path = ROOT,
        workers: int | None = None,
    ) -> None:
        """Configure it; nothing starts yet.

        ``timescale`` multiplies the waits of state machines before a retry, since a compiled
        machine cannot wait for less than a second. ``gaps`` names the files of ``local.gaps`` to
        close, ``checkout`` the code that functions run. ``workers`` is the most function workers at
        a time, by default as many as memory allows; ``RECOURSE_WORKERS`` in the environment does
        the same.
        """
        self.port = port
        self.url = f"http://127.0.0.1:{port}"
        self.folder = folder
        self.log = folder / "emulator.log"
        self.decisions = folder / "decisions.jsonl"
        self._timescale = timescale
        self._gaps = tuple(gaps)
        self._checkout = checkout
        self._workers = workers
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it, and return when it answers."""
        if not INTERPRETER.exists():
            raise EmulatorError("ministack is not installed: run `make setup` first")
        private.make_folder(self.folder)
        for name in ("state", "s3", "tmp"):
            (self.folder / name).mkdir(exist_ok=True)
        with self.log.open("wb") as log, signals.deferred():
            self._process = subprocess.Popen(
                [INTERPRETER, "-m", "local.boot", *self._gaps],
                cwd=ROOT,
                env=self._environment(),
                stdout=log,
                stderr=subprocess.STDOUT,
                # A session of its own: Ctrl-C must reach this process only, which ends it.
                start_new_session=True,
            )
        self._wait()

    @property
    def is_running(self) -> bool:
        """Whether its process is running."""
        return self._process is not None and self._process.poll() is None

    @property
    def pid(self) -> int:
        """The id of its process, which must have been started."""
        assert self._process is not None
        return self._process.pid

    def stop(self) -> None:
        """Stop it in order, so that it saves its state, then kill what its group has left."""
        if self._process is None:
            return
        process, self._process = self._process, None
        process.send_signal(signal.SIGINT)
        try:
            process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)

    def _wait(self) -> None:
        assert self._process is not None
        deadline = time.monotonic() + STARTUP_SECONDS
        # One client for all polls: making one takes about as long as the pause between two.
        with httpx.Client(timeout=2, trust_env=False) as http:
            while time.monotonic() < deadline and self._process.poll() is None:
                try:
                    if http.get(f"{self.url}/_ministack/ready").is_success:
                        return
                except httpx.TransportError:
                    pass
                time.sleep(0.05)
        ended = self._process.poll()
        self.stop()
        how = f"did not answer within {STARTUP_SECONDS} s" if ended is None else f"ended ({ended})"
        last = self.log.read_text(errors="replace").rstrip().rpartition("\n")[2]
        raise EmulatorError(f"ministack {how}: {last or 'it said nothing'}; its log is {self.log}")

    def _environment(self) -> dict[str, str]:
        # Workers inherit this, except the root key. Nothing in it may lead to a real account.
        inherited = {k: v for k, v in os.environ.items() if not k.startswith("AWS_")}
        return inherited | {
            # Enforce IAM; the root key follows, which workers do not get.
            "AUTH": "true",
            **environment(self.url),
            "RECOURSE_DECISIONS": str(self.decisions),
            "BIND_HOST": "127.0.0.1",
            "GATEWAY_PORT": str(self.port),
            "MINISTACK_HOST": "127.0.0.1",
            "NO_PROXY": "127.0.0.1,localhost",
            "no_proxy": "127.0.0.1,localhost",
            # These two would listen on every interface.
            "IOT_MTLS_ENABLED": "0",
            "SFTP_ENABLED": "0",
            "PERSIST_STATE": "1",
            "STATE_DIR": str(self.folder / "state"),
            "S3_PERSIST": "1",
            "S3_DATA_DIR": str(self.folder / "s3"),
            "TMPDIR": str(self.folder / "tmp"),
            "SFN_WAIT_SCALE": str(self._timescale),
            # As on AWS; calls beyond the bound on workers wait instead of being refused.
            "LAMBDA_ACCOUNT_CONCURRENCY": "1000",
            # For recourse/cdk/runtime/bootstrap.
            "RECOURSE_PYTHON": sys.executable,
            "RECOURSE_CHECKOUT": str(self._checkout),
            "PYTHONPATH": str(ROOT),
            "PYTHONUNBUFFERED": "1",
            **({"RECOURSE_WORKERS": str(self._workers)} if self._workers else {}),
        }
