"""Where the local cloud cannot start it says why; a signal ends it with all that it has started."""

from __future__ import annotations

import fcntl
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from recourse.local import LocalCloudError, ports
from recourse.local.cloud import LocalCloud
from recourse.local.emulator import Emulator, EmulatorError
from tests import ROOT


def refused(folder: Path, port: int = 0, aws_port: int = 0) -> str:
    with pytest.raises(LocalCloudError) as ended:
        LocalCloud(port=port, aws_port=aws_port, state_dir=folder).__enter__()
    assert "\n" not in str(ended.value)
    return str(ended.value)


def test_a_folder_in_use_names_its_holder_however_often_it_is_asked(tmp_path: Path) -> None:
    with (tmp_path / "lock").open("w") as lock:
        lock.write("4711 on http://127.0.0.1:8123")
        lock.flush()
        fcntl.flock(lock, fcntl.LOCK_EX)
        for _ in range(2):
            said = refused(tmp_path)
            assert f"another local cloud is using {tmp_path}" in said
            assert "process 4711 on http://127.0.0.1:8123" in said and "`kill 4711`" in said


def test_an_emulator_that_ends_as_it_starts_says_how_and_what_it_said_last(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as held:
        emulator = Emulator(port=held.getsockname()[1], folder=tmp_path / "emulator")
        with pytest.raises(EmulatorError, match=r"ministack ended \(\d+\): .*\d.*; its log is /"):
            emulator.start()
    assert not emulator.is_running


def test_a_free_port_is_none_that_the_system_gives_away() -> None:
    with socket.create_server(("127.0.0.1", 0)) as held:
        taken = held.getsockname()[1]
        assert ports.free_port(taken) != taken
    given = Path("/proc/sys/net/ipv4/ip_local_port_range")
    if given.exists():
        assert ports.free_port(0) < int(given.read_text().split()[0])


def test_a_port_in_use_names_its_holder(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as held:
        port = held.getsockname()[1]
        for option, variable in (("port", "PORT"), ("aws_port", "AWS_PORT")):
            said = refused(tmp_path, **{option: port})
            assert f"port {port} is in use" in said and f"choose another with {variable}=" in said
            if Path("/proc/net/tcp").exists():
                assert f"by process {os.getpid()} (" in said


@pytest.mark.parametrize(("port", "said"), [(-1, "got -1"), (65536, "got 65536")])
def test_a_port_that_is_none_is_refused(tmp_path: Path, port: int, said: str) -> None:
    assert said in refused(tmp_path, port=port)


def test_one_port_does_not_serve_for_two(tmp_path: Path) -> None:
    port = ports.free_port(0)
    assert "must differ" in refused(tmp_path, port=port, aws_port=port)


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert f"cannot write {tmp_path}/file" in refused(tmp_path / "file" / "cloud")
    (tmp_path / "ports.json").mkdir()
    assert f"{tmp_path}/ports.json: Is a directory" in refused(tmp_path)


RUN = """
import sys
from pathlib import Path
from recourse.local.cloud import run
run(port=0, aws_port=0, state_dir=Path(sys.argv[1]), say=lambda line: print(line, flush=True))
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_in_a_background_shell_with_all_that_it_has_started(
    tmp_path: Path, number: signal.Signals
) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", RUN, str(tmp_path)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
        # As a shell without job control starts what ends with `&`.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_IGN),
    ) as cloud:
        assert cloud.stdout
        try:
            for line in cloud.stdout:
                if line.startswith("synthesizing"):
                    break
            children = wait_for_all(cloud.pid)
            cloud.send_signal(number)
            assert cloud.wait(30) == 0
            assert cloud.stdout.read().splitlines()[-1:] == ["stopped"]
        finally:
            cloud.kill()  # its emulator ends itself
    until = time.monotonic() + 5
    while left := [one for one in children if is_alive(one)]:
        assert time.monotonic() < until, list(map(command, left))
        time.sleep(0.05)


def wait_for_all(parent: int) -> list[int]:
    """The emulator and the CDK CLI, and what they have started."""
    until = time.monotonic() + 30
    while len(found := offspring(parent)) < 3:
        assert time.monotonic() < until, found
        time.sleep(0.05)
    return found


def offspring(parent: int) -> list[int]:
    told = subprocess.run(["ps", "-eo", "pid=,ppid="], capture_output=True, text=True).stdout
    pairs = [(int(pid), int(of)) for pid, of in map(str.split, told.splitlines())]
    found = [parent]
    for one in found:
        found += [pid for pid, of in pairs if of == one]
    return [one for one in found[1:] if is_alive(one)]


def command(pid: int) -> bytes:
    return Path(f"/proc/{pid}/cmdline").read_bytes()


def is_alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state != "Z"
