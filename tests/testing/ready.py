"""A process that has loaded moto, and runs pytest in a fork of its own each time that it is asked.

Loading moto takes two seconds, half of what a project's run takes. Nothing of this library or of a
plugin of pytest is loaded before the fork: what a run loads of these, it loads as always.

    python tests/testing/ready.py

A line of its input is a run, as JSON; a line of its output is how that ended.
"""

from __future__ import annotations

import json
import os
import runpy
import sys
from typing import Any

import moto
import moto.dynamodb.responses
import moto.sns.responses
import moto.sqs.responses
import moto.stepfunctions.parser.models
import moto.stepfunctions.responses  # noqa: F401


def run(asked: dict[str, Any]) -> None:
    """Be `python -m pytest` in a folder, with an environment; what it says goes to files."""
    os.chdir(asked["folder"])
    os.environ.clear()
    os.environ.update(asked["environment"])
    for descriptor, path in ((1, asked["stdout"]), (2, asked["stderr"])):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), descriptor)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    sys.dont_write_bytecode = True
    sys.path[0] = asked["folder"]
    sys.path[1:1] = asked["environment"]["PYTHONPATH"].split(os.pathsep)
    sys.argv = ["pytest", *asked["arguments"]]
    runpy.run_module("pytest", run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    for line in sys.stdin:
        child = os.fork()
        if not child:
            run(json.loads(line))  # it ends by exiting
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
