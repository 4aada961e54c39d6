"""ministack's CloudFormation lacks state machine versions and aliases; its Step Functions has them.

AWS::StepFunctions::StateMachineVersion and AWS::StepFunctions::StateMachineAlias, as far as our
templates use them: a version of one revision, an alias that routes by weight or all at once.
"""

import json
from typing import Any

from ministack.services import stepfunctions
from ministack.services.cloudformation import provisioners

Props = dict[str, Any]
Provisioned = tuple[str, dict[str, str]]


def _answer(response: tuple[int, dict[str, str], bytes]) -> dict[str, Any]:
    status, _headers, body = response
    answer: dict[str, Any] = json.loads(body)
    if status >= 400:
        raise ValueError(answer.get("message", answer))
    return answer


def _routing(props: Props) -> list[dict[str, Any]]:
    whole = props.get("DeploymentPreference", {}).get("StateMachineVersionArn")
    routes = props.get("RoutingConfiguration") or [{"StateMachineVersionArn": whole, "Weight": 100}]
    return [
        {
            "stateMachineVersionArn": route["StateMachineVersionArn"],
            "weight": int(route["Weight"]),
        }
        for route in routes
    ]


def _create_version(_logical_id: str, props: Props, _stack: str) -> Provisioned:
    arn = _answer(
        stepfunctions._publish_state_machine_version(
            {
                "stateMachineArn": props["StateMachineArn"],
                "revisionId": props.get("StateMachineRevisionId"),
                "description": props.get("Description", ""),
            }
        )
    )["stateMachineVersionArn"]
    return arn, {"Arn": arn}


def _update_version(_physical_id: str, _old: Props, new: Props, stack: str) -> Provisioned:
    # A version is immutable: make a new one; the stack deletes the old one when it cleans up.
    return _create_version("", new, stack)


def _delete_version(physical_id: str, _props: Props) -> None:
    stepfunctions._state_machine_versions.pop(physical_id, None)


def _create_alias(_logical_id: str, props: Props, _stack: str) -> Provisioned:
    arn = _answer(
        stepfunctions._create_state_machine_alias(
            {
                "name": props["Name"],
                "description": props.get("Description", ""),
                "routingConfiguration": _routing(props),
            }
        )
    )["stateMachineAliasArn"]
    return arn, {"Arn": arn}


def _update_alias(physical_id: str, _old: Props, new: Props, _stack: str) -> Provisioned:
    _answer(
        stepfunctions._update_state_machine_alias(
            {"stateMachineAliasArn": physical_id, "routingConfiguration": _routing(new)}
        )
    )
    return physical_id, {"Arn": physical_id}


def _delete_alias(physical_id: str, _props: Props) -> None:
    _answer(stepfunctions._delete_state_machine_alias({"stateMachineAliasArn": physical_id}))


def close() -> None:
    """Register both types."""
    provisioners._RESOURCE_HANDLERS["AWS::StepFunctions::StateMachineVersion"] = {
        "create": _create_version,
        "update": _update_version,
        "delete": _delete_version,
    }
    provisioners._RESOURCE_HANDLERS["AWS::StepFunctions::StateMachineAlias"] = {
        "create": _create_alias,
        "update": _update_alias,
        "delete": _delete_alias,
    }
