"""The warm process: it has imported what functions share, and forks each new worker.

A Lambda worker that starts from scratch spends most of its start-up and memory on modules and AWS
service models that all workers share. This process loads them once, and forks share them.
``recourse.local.gaps.warm_workers`` starts this file under the functions' own interpreter and asks
it for workers:

- the control socket carries a byte for each worker, with three file descriptors: its connection,
  its stdout and stderr, and a pipe with its environment as JSON;
- over the connection the worker answers ``pid N``; when it has ended, ``exit CODE`` follows, and
  every process that it had started is killed;
- closing the connection kills the worker. Closing the control socket ends this process after its
  last worker.

It has one thread, and makes nothing before the fork that must not be shared: no threads, no
sockets, no clients. What reads its environment on import, as most handlers and AWS's runtime
interface client do, is imported in the worker only.
"""

import gc
import importlib
import importlib.util
import itertools
import json
import os
import pkgutil
import runpy
import selectors
import signal
import socket
import sys
import time
import traceback
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

LIBRARY = "recourse"
NOT_SHARED = tuple(
    f"{LIBRARY}.{one}" for one in ("cdk", "cli", "doctor", "functions.", "local", "testing")
)
"""Parts of it that functions do not load, and handlers, which read their environment on import."""
MODULES = (
    "aws_lambda_powertools.event_handler.router",
    "aws_lambda_powertools.logging",
    "aws_lambda_powertools.metrics",
    "aws_lambda_powertools.utilities.batch",
    "encodings.idna",
    "fpdf",
    "http.client",
    "jwt",
    "pydantic.dataclasses",
    "pydantic.fields",
    "pydantic.networks",
    "pydantic.types",
    "simplejson",
    "snapshot_restore_py",
)
"""Third-party modules that functions share where they are installed, besides those that the
checkout imports."""
SERVICES = (
    "apigatewaymanagementapi",
    *("dynamodb", "kms", "lambda", "s3", "sns", "sqs", "stepfunctions"),
)
"""AWS services whose models they share."""
READ_AT_START = (
    *("DYLD_", "LANG", "LC_", "LD_", "MALLOC_", "PYTHON", "_PYTHON"),
    *("AWS_EXECUTION_ENV", "AWS_LAMBDA_INITIALIZATION_TYPE"),
    *("PILLOW_", "POWERTOOLS_DEBUG", "POWERTOOLS_TRACE_MIDDLEWARES"),
)
"""Prefixes of variables that are read when the interpreter starts or shared modules are imported: a
function that sets one of them to another value cannot be forked from this process."""


def load() -> None:
    """Import what functions share; one that fails is reported, and imported by each function.

    Those are the library and the project's packages (`RECOURSE_PACKAGES`), without the modules that
    read their environment on import: they would have that of no function.
    """
    for name in (*MODULES, *_modules(LIBRARY)):
        if not name.startswith(NOT_SHARED) and _is_installed(name):
            _load(name)
    _load_models()
    with _watched() as read:
        packages = os.environ.get("RECOURSE_PACKAGES", "").split()
        for name in itertools.chain.from_iterable(map(_modules, packages)):
            before = set(sys.modules)
            _load(name, unless=read)
            if read:
                for one in set(sys.modules).difference(before):
                    if one.partition(".")[0] in packages:
                        del sys.modules[one]
                read.clear()
    gc.collect()
    gc.freeze()  # otherwise the first collection in each worker would copy all of it


def _is_installed(name: str) -> bool:
    return importlib.util.find_spec(name.partition(".")[0]) is not None


def _modules(package: str) -> Iterator[str]:
    """A package and all that is in it; or a module."""
    spec = importlib.util.find_spec(package)
    if spec is None:
        return
    yield package
    yield from _below(package, spec.submodule_search_locations or ())


def _below(package: str, places: Iterable[str]) -> Iterator[str]:
    # `pkgutil.walk_packages` would import packages itself.
    for place in places:
        for one in pkgutil.iter_modules([place]):
            name = f"{package}.{one.name}"
            yield name
            if one.ispkg:
                yield from _below(name, [os.path.join(place, one.name)])


@contextmanager
def _watched() -> Iterator[set[str]]:
    """Which variables of the environment are read as long as the block lasts."""
    read: set[str] = set()
    kind = os.environ.__class__

    class Watched(kind):  # type: ignore[misc, valid-type]
        def __getitem__(self, name: str) -> str:
            if not name.startswith(READ_AT_START):
                read.add(name)
            return str(super().__getitem__(name))

    os.environ.__class__ = Watched
    try:
        yield read
    finally:
        os.environ.__class__ = kind


def _load(name: str, unless: Collection[str] = ()) -> None:
    """Import a module, and report it where that fails, unless the collection has anything then."""
    try:
        importlib.import_module(name)
    except Exception:
        if unless:
            return
        print(f"cannot load {name} for all workers:\n{traceback.format_exc()}", file=sys.stderr)


def _load_models() -> None:
    import botocore.session

    session = botocore.session.Session()
    for service in SERVICES:
        # Making a client loads the models it needs; the client itself is thrown away.
        session.create_client(
            service, region_name="us-east-1", aws_access_key_id="-", aws_secret_access_key="-"
        )
    loader, create_loader = session.get_component("data_loader"), botocore.session.create_loader

    def shared_loader(search_path_string: str | None = None) -> Any:
        return create_loader(search_path_string) if search_path_string else loader

    botocore.session.create_loader = shared_loader


def serve(control: socket.socket) -> tuple[socket.socket, int] | None:
    """Fork a worker for each byte received; returns in each worker, and at the end here.

    Returns:
        In a worker its connection and the pipe with its environment; None in the warm process,
        when it is no longer needed.
    """
    woken, wake = socket.socketpair()
    wake.setblocking(False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(wake.fileno())
    workers: dict[int, socket.socket] = {}
    # Not epoll, whose descriptor a fork would share.
    selector = selectors.PollSelector()
    selector.register(woken, selectors.EVENT_READ)
    selector.register(control, selectors.EVENT_READ)
    while control.fileno() >= 0 or workers:
        for key, _ in selector.select():
            if key.data is not None:  # its connection was closed: end the worker
                selector.unregister(key.fileobj)
                _kill(key.data)
            elif key.fileobj is woken:
                woken.recv(4096)
                _reap(workers, selector)
            elif not (descriptors := socket.recv_fds(control, 1, 3)[1]):
                selector.unregister(control)
                control.close()
            else:
                connection, output, asked = socket.socket(fileno=descriptors[0]), *descriptors[1:]
                pid = os.fork()
                if pid == 0:
                    signal.set_wakeup_fd(-1)
                    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                    for other in (control, woken, wake, *workers.values()):
                        other.close()
                    _set_apart(output)
                    return connection, asked
                os.close(output)
                os.close(asked)
                workers[pid] = connection
                selector.register(connection, selectors.EVENT_READ, pid)
    return None


def _reap(workers: dict[int, socket.socket], selector: selectors.BaseSelector) -> None:
    """Report the exit code of each ended worker, once its process group is gone."""
    for pid, connection in list(workers.items()):
        ended, status = os.waitpid(pid, os.WNOHANG)
        if not ended:
            continue
        _kill(pid)  # its group may live on, and keeps its id from being reused
        code = os.waitstatus_to_exitcode(status)
        del workers[pid]
        with suppress(KeyError):
            selector.unregister(connection)
        with suppress(OSError):
            connection.sendall(f"exit {code}\n".encode())
        connection.close()


def _kill(pid: int) -> None:
    """Kill a worker and the processes it has started."""
    # During its fork it may still be in our own group.
    for kill in (os.killpg, os.kill):
        with suppress(ProcessLookupError, PermissionError):
            kill(pid, signal.SIGKILL)


def _set_apart(output: int) -> None:
    """Give a worker a process group and an output of its own."""
    os.setsid()
    for descriptor in (1, 2):
        os.dup2(output, descriptor)
    os.close(output)


def work(connection: socket.socket, asked: int) -> None:
    """Run as a worker: as recourse/cdk/runtime/bootstrap would, in the environment received."""
    connection.set_inheritable(False)
    # Only the worker holds the connection, not the processes that its handler forks.
    os.register_at_fork(after_in_child=connection.close)
    connection.sendall(f"pid {os.getpid()}\n".encode())
    with os.fdopen(asked, "rb") as pipe:
        environment = pipe.read()
    if not environment:  # the requester has gone
        return
    os.environ.clear()
    os.environ.update(json.loads(environment))
    time.tzset()
    root = os.environ["LAMBDA_TASK_ROOT"] = os.environ["RECOURSE_CHECKOUT"]
    os.chdir(root)
    sys.path[0] = root
    sys.argv = ["awslambdaric", os.environ["_HANDLER"]]
    runpy.run_module("awslambdaric", run_name="__main__", alter_sys=True)


def main() -> None:
    """Load, then fork until the control socket is closed."""
    control = socket.socket(fileno=int(sys.argv[1]))
    control.set_inheritable(False)
    sys.path[0] = os.getcwd()
    load()
    worker = serve(control)
    if worker:
        work(*worker)


if __name__ == "__main__":
    main()
