"""ministack authorizes batch calls by separate actions; AWS uses the action of the items.

Source: AWS, Service Authorization Reference, Amazon SNS and Amazon SQS, which list no such actions.
"""

from ministack.core import iam_actions

BATCHES = {
    "sns:PublishBatch": "sns:Publish",
    "sqs:ChangeMessageVisibilityBatch": "sqs:ChangeMessageVisibility",
    "sqs:DeleteMessageBatch": "sqs:DeleteMessage",
    "sqs:SendMessageBatch": "sqs:SendMessage",
}


def close() -> None:
    """Authorize a batch by the action of its items."""
    extract = iam_actions.extract_iam_action

    def extract_as_on_aws(*request: object) -> str | None:
        action: str | None = extract(*request)
        return BATCHES.get(action, action) if action else None

    iam_actions.extract_iam_action = extract_as_on_aws
