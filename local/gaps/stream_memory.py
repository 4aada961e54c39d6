"""ministack keeps every record of a stream in memory for a day, 60 KB of them for each trip.

What all mappings of a table have read nobody asks for again, so but for the latest it is dropped.
"""

from collections import defaultdict

from ministack.core.arn import parse_arn
from ministack.services import dynamodb, lambda_svc

KEPT = 500
"""Records of a table that are kept, for whoever reads its stream by hand."""


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
        records = dynamodb._stream_records.get_scoped(*of_table) or []
        dropped = dynamodb._stream_trimmed.get_scoped(*of_table) or 0
        more = min(min(positions) - dropped, len(records) - KEPT)
        if more > 0:
            del records[:more]
            dynamodb._stream_trimmed.set_scoped(*of_table, dropped + more)


def close() -> None:
    """Drop what was read after each look at the streams."""
    poll = lambda_svc._poll_dynamodb_streams

    def poll_and_drop() -> bool:
        processed: bool = poll()
        _drop_read()
        return processed

    lambda_svc._poll_dynamodb_streams = poll_and_drop
