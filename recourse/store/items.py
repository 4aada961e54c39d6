"""Rows of DynamoDB as plain Python, and back; and the write requests made from a step's writes.

Integers only: money is counted in minor units, and a float is refused rather than rounded.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from recourse.step import AtLeast, Item, Put, Update, Write

if TYPE_CHECKING:
    from types_boto3_dynamodb.type_defs import TransactWriteItemTypeDef


def encode(value: Any) -> dict[str, Any]:
    """One value in DynamoDB's own JSON.

    Raises:
        TypeError: It is something that a row does not hold, a float among them.
    """
    match value:
        case str():
            return {"S": value}
        case bool():
            return {"BOOL": value}
        case int():
            return {"N": str(value)}
        case None:
            return {"NULL": True}
        case Mapping():
            return {"M": {key: encode(item) for key, item in value.items()}}
        case list() | tuple():
            return {"L": [encode(item) for item in value]}
    raise TypeError(f"a row holds no {type(value).__name__}: {value!r}")


def decode(value: Mapping[str, Any]) -> Any:
    """The plain value of one in DynamoDB's own JSON; also of a set of strings, as updates make."""
    ((kind, inner),) = value.items()
    match kind:
        case "S" | "BOOL":
            return inner
        case "N":
            return int(inner)
        case "NULL":
            return None
        case "M":
            return {key: decode(item) for key, item in inner.items()}
        case "L":
            return [decode(item) for item in inner]
        case "SS":
            return frozenset(inner)
    raise TypeError(f"a row holds no {kind}")


def encode_item(item: Mapping[str, Any]) -> dict[str, Any]:
    """A whole row in DynamoDB's own JSON."""
    return {key: encode(value) for key, value in item.items()}


def decode_item(item: Mapping[str, Any]) -> Item:
    """The plain row of one in DynamoDB's own JSON."""
    return {key: decode(value) for key, value in item.items()}


def put_if_absent(table: str, item: Item) -> TransactWriteItemTypeDef:
    """A request that puts a new row and, where it is there already, shows what is there."""
    return put(table, item, None)


def put(table: str, item: Item, replaces: Mapping[str, Any] | None) -> TransactWriteItemTypeDef:
    """A request that puts a row where there is none, or in the place of one that holds this.

    Where its condition does not hold, it shows what is there.
    """
    request: dict[str, Any] = {
        "TableName": table,
        "Item": encode_item(item),
        "ConditionExpression": "attribute_not_exists(pk)",
        "ReturnValuesOnConditionCheckFailure": "ALL_OLD",
    }
    if replaces is not None:
        request |= {
            "ConditionExpression": " AND ".join(f"#{at} = :{at}" for at in range(len(replaces))),
            "ExpressionAttributeNames": {f"#{at}": name for at, name in enumerate(replaces)},
            "ExpressionAttributeValues": {
                f":{at}": encode(value) for at, value in enumerate(replaces.values())
            },
        }
    return {"Put": request}  # type: ignore[typeddict-item]


def request(table: str, write: Write) -> TransactWriteItemTypeDef:
    """The request that carries out one write of a step."""
    if isinstance(write, Put):
        return put_if_absent(table, write.item)
    return {"Update": update_request(table, write)}


def update_request(table: str, write: Update) -> Any:
    """The parameters of an UpdateItem, alone or in a transaction."""
    names: dict[str, str] = {}
    values: dict[str, Any] = {}

    def name(attribute: str) -> str:
        return names.setdefault(attribute, f"#{len(names)}")

    def value(of: Any) -> str:
        values[f":{len(values)}"] = encode(of)
        return f":{len(values) - 1}"

    clauses = []
    if write.put:
        clauses.append("SET " + ", ".join(f"{name(a)} = {value(v)}" for a, v in write.put.items()))
    if write.add:
        clauses.append("ADD " + ", ".join(f"{name(a)} {value(v)}" for a, v in write.add.items()))
    conditions = ["attribute_exists(pk)"]
    for attribute, wanted in write.when.items():
        if isinstance(wanted, AtLeast):
            conditions.append(f"{name(attribute)} >= {value(wanted.value)}")
        else:
            conditions.append(f"{name(attribute)} = {value(wanted)}")
    return {
        "TableName": table,
        "Key": {"pk": {"S": write.key}},
        "UpdateExpression": " ".join(clauses),
        "ConditionExpression": " AND ".join(conditions),
        "ExpressionAttributeNames": {alias: attribute for attribute, alias in names.items()},
        "ExpressionAttributeValues": values,
    }
