"""Gap: moto runs state machines, but not the functions of their Lambda tasks.

Here a task calls the Python function that is registered under the name in its ARN. An exception
becomes what Lambda makes of it: its class name is the error. `TimeoutError` plays a task that ran
out of its time; `Killed` a process that died.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from moto.stepfunctions.parser.asl.component.state.exec.state_task import lambda_eval_utils

from recourse.testing.patching import replaced

Handler = Callable[[dict[str, Any]], Any]
ACCOUNT = "123456789012"


MISSING = "Lambda.ResourceNotFoundException"


class Killed(BaseException):
    """The process of a function dies at this point."""


def arn(name: str) -> str:
    """The ARN of a registered function."""
    return f"arn:aws:lambda:us-east-1:{ACCOUNT}:function:{name}"


def call(handler: Handler, payload: Any) -> Any:
    """Call a handler as Lambda would: through JSON both ways.

    Raises:
        LambdaFunctionErrorException: The handler raised, or its process died.
    """
    try:
        return json.loads(json.dumps(handler(json.loads(payload))))
    except TimeoutError:
        raise
    except Killed:
        error = {"errorType": "Runtime.ExitError", "errorMessage": "the process died"}
    except Exception as problem:
        error = {"errorType": type(problem).__name__, "errorMessage": str(problem)}
    raise lambda_eval_utils.LambdaFunctionErrorException("Unhandled", json.dumps(error))


@contextmanager
def registered(functions: Mapping[str, Handler]) -> Iterator[None]:
    """Let Lambda tasks call these functions, by name, for the length of a block.

    It needs nothing else of this library::

        def charge(event):
            return {"charged": event["amount"]}

        with mock_aws(config={"stepfunctions": {"execute_state_machine": True}}):
            with handlers.registered({"Charge": charge}):
                sfn = boto3.client("stepfunctions", "us-east-1")
                ...  # a machine whose task has the Resource `handlers.arn("Charge")`

    Args:
        functions: Each takes the event as plain data and returns plain data. What one raises is the
            error of its task, by the name of its class; `TimeoutError` is `States.Timeout`, and
            `Killed` a process that died.
    """

    def invoke(*, env: Any, parameters: dict[str, Any], **_: Any) -> None:
        name = parameters["FunctionName"].rpartition(":")[2]
        if name not in functions:
            # As for a function that has been deleted.
            error = {"errorType": MISSING, "errorMessage": f"Function not found: {arn(name)}"}
            raise lambda_eval_utils.LambdaFunctionErrorException("Unhandled", json.dumps(error))
        answer = call(functions[name], parameters["Payload"])
        env.stack.append({"Payload": answer, "StatusCode": 200})

    with replaced(lambda_eval_utils, "execute_lambda_function_integration", invoke):
        yield
