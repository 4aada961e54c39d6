"""Signatures are those of the library that receivers use."""

from __future__ import annotations

import base64
from datetime import UTC, datetime

from hypothesis import given
from hypothesis import strategies as st
from standardwebhooks import Webhook as Verifier

from recourse.webhooks.signing import LENGTH, PREFIX, headers, new_secret


@given(
    st.binary(min_size=24, max_size=64),
    st.text(min_size=1),
    st.integers(0, 2**31),
    st.text(),
)
def test_every_signature_is_the_librarys(key: bytes, event_id: str, at: int, body: str) -> None:
    secret = PREFIX + base64.b64encode(key).decode()
    found = headers([secret], event_id, at, body.encode())
    expected = Verifier(secret).sign(event_id, datetime.fromtimestamp(at, UTC), body)
    assert found["webhook-signature"] == expected
    assert (found["webhook-id"], found["webhook-timestamp"]) == (event_id, str(at))


def test_a_secret_is_long_random_and_marked_as_one() -> None:
    made = {new_secret() for _ in range(100)}
    assert len(made) == 100
    for secret in made:
        assert secret.startswith(PREFIX)
        assert len(base64.b64decode(secret.removeprefix(PREFIX), validate=True)) == LENGTH
