"""ministack treats plain HTTP as insecure transport; here it stays on loopback.

The deployed policies deny calls without TLS (`aws:SecureTransport`), which would deny every call.
"""

from typing import Any

from ministack.core import iam_evaluator


def close() -> None:
    """Authorize every call as if it came by TLS."""
    resolve = iam_evaluator._resolve_condition_key

    def resolve_as_tls(key: str, context: Any) -> Any:
        return "true" if key.lower() == "aws:securetransport" else resolve(key, context)

    iam_evaluator._resolve_condition_key = resolve_as_tls
