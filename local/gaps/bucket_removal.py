"""ministack's CloudFormation deletes buckets with all that is in them; AWS refuses."""

from typing import Any

from ministack.services import s3
from ministack.services.cloudformation import provisioners


def close() -> None:
    """Let a bucket stay, and its stack be DELETE_FAILED, while anything is in it."""
    handler = provisioners._RESOURCE_HANDLERS["AWS::S3::Bucket"]
    delete = handler["delete"]

    def delete_if_empty(name: str, props: dict[str, Any]) -> None:
        bucket = s3._buckets.get(name)
        if bucket and (bucket["objects"] or s3._bucket_has_versions(name)):
            raise ValueError(
                "The bucket you tried to delete is not empty. You must delete all versions in it."
            )
        delete(name, props)

    handler["delete"] = delete_if_empty
