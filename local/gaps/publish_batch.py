"""ministack judges `PublishBatch` by an action of that name; on AWS it is `sns:Publish`.

Source: AWS, Service Authorization Reference, Amazon SNS, which knows no `sns:PublishBatch`.
"""

from ministack.core import iam_actions


def close() -> None:
    """Judge a batch as what it publishes."""
    extract = iam_actions.extract_iam_action

    def extract_as_on_aws(*request: object) -> str | None:
        action: str | None = extract(*request)
        return "sns:Publish" if action == "sns:PublishBatch" else action

    iam_actions.extract_iam_action = extract_as_on_aws
