"""ministack's CloudFormation deletes buckets that are not empty; AWS refuses."""

from typing import Any

from ministack.services import s3
from ministack.services.cloudformation import provisioners


def close() -> None:
    """Keep a bucket that is not empty, and fail the deletion of its stack (DELETE_FAILED)."""
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
