"""ministack keeps every stream record for a day, and a log stream for each invocation without end.

All of it is in memory, some 400 KB for each trip. Records that all mappings of a table have read
are not needed again, and on AWS a function's invocations share a few log streams. So only the
latest are kept.
"""

from collections import defaultdict
from typing import Any

from ministack.core.arn import parse_arn
from ministack.services import cloudwatch_logs, dynamodb, lambda_svc

from recourse.local.gaps.batches_of_streams import COUNTED

RECORDS = 500
"""Records of a table to keep, for reading its stream by hand."""
LOGS = 100
"""Log streams of a group to keep; the emulator's own log has the output of all functions."""


def _drop_read() -> None:
    read = defaultdict(list)
    for account, region, mapping in lambda_svc._iter_all_esms():
        source = parse_arn(mapping["EventSourceArn"])
        if source.service == "dynamodb":
            table = source.resource.split("/")[1]
            position = lambda_svc._dynamodb_stream_positions.get_scoped(
                account, region, mapping["UUID"], 0
            )
            read[account, region, table].append(position)
    for of_table, positions in read.items():
        with COUNTED:
            records = dynamodb._stream_records.get_scoped(*of_table) or []
            dropped = dynamodb._stream_trimmed.get_scoped(*of_table) or 0
            more = min(min(positions) - dropped, len(records) - RECORDS)
            if more > 0:
                del records[:more]
                dynamodb._stream_trimmed.set_scoped(*of_table, dropped + more)


def _drop_logs(function: dict[str, Any]) -> None:
    config = function.get("config") or function
    name = (config.get("LoggingConfig") or {}).get("LogGroup")
    group = cloudwatch_logs._log_groups.get(name or f"/aws/lambda/{config['FunctionName']}")
    streams = group["streams"] if group else {}
    for stream in list(streams)[:-LOGS]:
        streams.pop(stream, None)


def close() -> None:
    """Drop records that were read after each poll, and old logs after each invocation."""
    poll, log = lambda_svc._poll_dynamodb_streams, lambda_svc._emit_lambda_logs

    def poll_and_drop() -> bool:
        processed: bool = poll()
        _drop_read()
        return processed

    def log_and_drop(function: dict[str, Any], *arguments: Any, **options: Any) -> None:
        log(function, *arguments, **options)
        _drop_logs(function)

    lambda_svc._poll_dynamodb_streams = poll_and_drop
    lambda_svc._emit_lambda_logs = log_and_drop
