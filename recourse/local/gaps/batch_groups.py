"""ministack loses the message groups of a batch that is published to a standard topic.

It passes that of a single Publish on to queues. AWS does so with both: "for standard topics, the
MessageGroupId is forwarded to SQS standard queue subscriptions" (API Reference of Amazon SNS,
PublishBatchRequestEntry). Its queues are not fair; but who receives a message sees the group.
"""

from typing import Any

from ministack.services import sns


class Attributes(dict[str, Any]):
    """The attributes of an entry, with which its group comes to where it is fanned out."""

    group = ""


def close() -> None:
    """Pass on the group of each entry."""
    parse, fan_out = sns._parse_batch_entries, sns._fanout

    def parse_with_groups(params: Any) -> Any:
        entries = parse(params)
        for entry in entries:
            entry["message_attributes"] = Attributes(entry["message_attributes"])
            entry["message_attributes"].group = entry["message_group_id"]
        return entries

    def fan_out_in_groups(*args: Any, **named: Any) -> None:
        for one in args:
            if isinstance(one, Attributes):
                named.setdefault("message_group_id", one.group)
        fan_out(*args, **named)

    sns._parse_batch_entries = parse_with_groups
    sns._fanout = fan_out_in_groups
