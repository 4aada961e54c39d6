"""ministack keeps a stream mapping's position over a restart, but not the stream's records.

So after a restart a mapping waits at a position that the empty stream only reaches after as many
new records, and records that were not relayed before are lost. On AWS a stream holds its records
for a day, whatever restarts.
"""

from typing import Any

from ministack.services import dynamodb

State = dict[str, Any]


def close() -> None:
    """Save and load the records, and how many were trimmed before them, with the tables."""
    get_state, load = dynamodb.get_state, dynamodb.load_persisted_state

    def get_state_and_records() -> State:
        state: State = get_state()
        return state | {
            "stream_records": dynamodb._stream_records,
            "stream_trimmed": dynamodb._stream_trimmed,
        }

    def load_state_and_records(state: State) -> None:
        load(state)
        dynamodb._stream_records.update(state.get("stream_records", {}))
        dynamodb._stream_trimmed.update(state.get("stream_trimmed", {}))

    dynamodb.get_state = get_state_and_records
    dynamodb.load_persisted_state = load_state_and_records
