"""The warm process: it has imported what functions share, and forks for each new worker.

A Lambda worker that is started from nothing spends most of its start, and of its memory, on the
same modules and the same models of AWS's services as any other. Here they are loaded once; a fork
shares them. ``local.gaps.warm_workers`` starts this file under the functions' own interpreter and
asks for workers:

- over the control socket comes a byte for each worker, with three descriptors: its connection,
  what becomes its stdout and stderr, and a pipe with its environment, in JSON;
- over the connection it answers ``pid N``; when it has ended, ``exit CODE`` comes, and whatever it
  had started is killed;
- who closes the connection kills the worker. Who closes the control socket wants no more workers:
  this process ends with its last one.

One thread, and nothing may be made before the fork that must not be shared over it: no threads, no
sockets, no clients. Handlers and AWS's runtime interface client are imported in the worker alone,
for they read their environment as they are imported.
"""

import gc
import importlib
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
from contextlib import suppress
from typing import Any

PACKAGES = ("recourse", "services", "statemachines")
"""What functions share of the checkout."""
NOT_SHARED = ("recourse.cdk", "recourse.functions.")
"""But for this: no function loads the CDK, and handlers read their environment as they are
imported, as those in `lambdas` do."""
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
"""What they share of others' packages, beside what those of the checkout import."""
SERVICES = (
    "apigatewaymanagementapi",
    *("dynamodb", "kms", "lambda", "s3", "sns", "sqs", "stepfunctions"),
)
"""Whose models of AWS they share."""
READ_AT_START = (
    *("DYLD_", "LANG", "LC_", "LD_", "MALLOC_", "PYTHON", "_PYTHON"),
    *("AWS_EXECUTION_ENV", "AWS_LAMBDA_INITIALIZATION_TYPE"),
    *("PILLOW_", "POWERTOOLS_DEBUG", "POWERTOOLS_TRACE_MIDDLEWARES"),
)
"""How the variables begin that are read when an interpreter starts or what is shared is imported:
a function that sets one of them otherwise than this process has it cannot be forked from it."""


def load() -> None:
    """Import what functions share; what cannot be imported is its functions' own business."""
    for name in MODULES:
        _load(name)
    for package in PACKAGES:
        for module in pkgutil.walk_packages([package], f"{package}.", onerror=lambda _: None):
            if not module.name.startswith(NOT_SHARED):
                _load(module.name)
    _load_models()
    gc.collect()
    gc.freeze()  # else the first collection in each worker copies all of it


def _load(name: str) -> None:
    try:
        importlib.import_module(name)
    except Exception:
        print(f"cannot load {name} for all workers:\n{traceback.format_exc()}", file=sys.stderr)


def _load_models() -> None:
    import botocore.session

    session = botocore.session.Session()
    for service in SERVICES:
        # Whatever a client needs is loaded as it is made; the client itself is thrown away.
        session.create_client(
            service, region_name="us-east-1", aws_access_key_id="-", aws_secret_access_key="-"
        )
    loader, create_loader = session.get_component("data_loader"), botocore.session.create_loader

    def shared_loader(search_path_string: str | None = None) -> Any:
        return create_loader(search_path_string) if search_path_string else loader

    botocore.session.create_loader = shared_loader


def serve(control: socket.socket) -> tuple[socket.socket, int] | None:
    """Fork a worker for each byte that comes; returns in each of them, and at the end.

    Returns:
        In a worker its connection and what to read its environment from; in the warm process
        nothing, when it is no longer needed.
    """
    woken, wake = socket.socketpair()
    wake.setblocking(False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(wake.fileno())
    workers: dict[int, socket.socket] = {}
    # Not epoll, whose descriptor would be shared over the fork.
    selector = selectors.PollSelector()
    selector.register(woken, selectors.EVENT_READ)
    selector.register(control, selectors.EVENT_READ)
    while control.fileno() >= 0 or workers:
        for key, _ in selector.select():
            if key.data is not None:  # nobody wants this worker any longer
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
    """Say of each worker that has ended how it did, once nothing of it is left."""
    for pid, connection in list(workers.items()):
        ended, status = os.waitpid(pid, os.WNOHANG)
        if not ended:
            continue
        _kill(pid)  # no process gets this id while any of its group is left
        code = os.waitstatus_to_exitcode(status)
        del workers[pid]
        with suppress(KeyError):
            selector.unregister(connection)
        with suppress(OSError):
            connection.sendall(f"exit {code}\n".encode())
        connection.close()


def _kill(pid: int) -> None:
    """End a worker and what it has started."""
    # It may be in the middle of its fork, in our own group still.
    for kill in (os.killpg, os.kill):
        with suppress(ProcessLookupError, PermissionError):
            kill(pid, signal.SIGKILL)


def _set_apart(output: int) -> None:
    """Give a worker a group and an output of its own."""
    os.setsid()
    for descriptor in (1, 2):
        os.dup2(output, descriptor)
    os.close(output)


def work(connection: socket.socket, asked: int) -> None:
    """Be a worker: what local/runtime/bootstrap would start, in the environment that comes."""
    connection.set_inheritable(False)
    # Who holds the connection is the worker, and not what its handler forks.
    os.register_at_fork(after_in_child=connection.close)
    connection.sendall(f"pid {os.getpid()}\n".encode())
    with os.fdopen(asked, "rb") as pipe:
        environment = pipe.read()
    if not environment:  # who has asked is gone
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
    """Load, then fork until nobody asks any longer."""
    control = socket.socket(fileno=int(sys.argv[1]))
    control.set_inheritable(False)
    sys.path[0] = os.getcwd()
    load()
    worker = serve(control)
    if worker:
        work(*worker)


if __name__ == "__main__":
    main()
