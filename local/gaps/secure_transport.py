"""ministack judges plain HTTP as insecure transport; here it goes over loopback and no further.

What AWS gets denies whatever does not come by TLS (`aws:SecureTransport`), and nobody could use it.
"""

from typing import Any

from ministack.core import iam_evaluator


def close() -> None:
    """Judge every call as one that has come by TLS."""
    resolve = iam_evaluator._resolve_condition_key

    def resolve_as_tls(key: str, context: Any) -> Any:
        return "true" if key.lower() == "aws:securetransport" else resolve(key, context)

    iam_evaluator._resolve_condition_key = resolve_as_tls
