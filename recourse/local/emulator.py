"""Starts and stops ministack, the AWS emulator of the local cloud."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Sequence
from pathlib import Path

import httpx

from recourse import tools
from recourse.local import LocalCloudError, private, signals
from recourse.local.aws import environment
from recourse.local.boot import GAPS

LIBRARY = Path(tools.__file__).parent
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
        checkout: Path | None = None,
        packages: Sequence[str] = (),
        workers: int | None = None,
    ) -> None:
        """Configure it; nothing starts yet.

        ``timescale`` multiplies the waits of state machines before a retry, since a compiled
        machine cannot wait for less than a second. ``gaps`` names the files of
        ``recourse.local.gaps`` to close, ``checkout`` the folder of the code that functions run, by
        default the current one, and ``packages`` the paths of its packages from there. ``workers``
        is the most function workers at a time, by default as many as memory allows;
        ``RECOURSE_WORKERS`` in the environment does the same.
        """
        self.port = port
        self.url = f"http://127.0.0.1:{port}"
        self.folder = folder
        self.log = folder / "emulator.log"
        self.decisions = folder / "decisions.jsonl"
        self._timescale = timescale
        self._gaps = tuple(gaps)
        self._checkout = checkout or Path.cwd()
        self._packages = [self._checkout / one for one in packages]
        self._workers = workers
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it, and return when it answers."""
        if not tools.EMULATOR.exists():
            raise EmulatorError("ministack is not installed: run `python -m recourse.tools`")
        private.make_folder(self.folder)
        for name in ("state", "s3", "tmp", "path"):
            (self.folder / name).mkdir(exist_ok=True)
        # Its environment has another botocore than ours, so it may find the library, and no more.
        library = self.folder / "path" / LIBRARY.name
        library.unlink(missing_ok=True)
        library.symlink_to(LIBRARY)
        with self.log.open("wb") as log, signals.deferred():
            self._process = subprocess.Popen(
                [tools.EMULATOR, "-m", "recourse.local.boot", *self._gaps],
                cwd=self._checkout,
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
        places = (self.folder / "path", *(one.parent for one in self._packages))
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
            "RECOURSE_PACKAGES": " ".join(one.stem for one in self._packages),
            "RECOURSE_WATCHED": os.pathsep.join(map(str, [LIBRARY, *self._packages])),
            "PYTHONPATH": os.pathsep.join(map(str, dict.fromkeys(places))),
            "PYTHONUNBUFFERED": "1",
            **({"RECOURSE_WORKERS": str(self._workers)} if self._workers else {}),
        }
