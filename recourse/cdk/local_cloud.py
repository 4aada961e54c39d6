"""What constructs tell the local cloud: outputs that the stacks of no other deployment have.

`recourse up` finds the API and the live channels of an app by them, in any layout of stacks.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from constructs import Construct

    from recourse.cdk.stage import Stage

Kind = Literal["Api", "Live"]
PREFIX = "LocalCloud"
"""What the names of these outputs begin with; the construct's kind and address follow."""
CONSTRUCT = "construct"
"""The value that has the construct's path."""


def tell(construct: Construct, kind: Kind, *, stage: Stage, **values: str) -> None:
    """Output values of a construct, if its stage is the local cloud's.

    The output is in the outermost stack: those of a nested one are its parent's business.
    """
    from aws_cdk import CfnOutput, Stack

    if not stage.local:
        return
    stack = Stack.of(construct)
    while parent := stack.nested_stack_parent:
        stack = parent
    text = stack.to_json_string({CONSTRUCT: construct.node.path, **values})
    CfnOutput(stack, f"{PREFIX}{kind}{construct.node.addr[-8:]}", value=text)


def told(kind: Kind, outputs: Mapping[str, str]) -> list[dict[str, str]]:
    """The values of every construct of a kind, of the outputs of an app's stacks."""
    begins = f"{PREFIX}{kind}"
    return [json.loads(text) for name, text in sorted(outputs.items()) if name.startswith(begins)]
