"""The id of a saga cannot be wrong."""

from __future__ import annotations

import copy
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recourse.declare.ids import BadSagaIdError, SagaId


@given(st.text(), st.text(), st.text())
def test_the_same_start_has_the_same_id_and_another_has_another(
    saga: str, owner: str, key: str
) -> None:
    made = SagaId.of(saga, owner, key)
    assert made == SagaId.of(saga, owner, key) == SagaId(str(made)) == copy.deepcopy(made)
    assert json.loads(json.dumps({"id": made})) == {"id": str(made)}
    assert made not in (SagaId.of(saga, owner, key + "."), SagaId.of(saga, owner + ".", key))


def test_ids_that_were_given_out_stay_what_they_are() -> None:
    assert SagaId.of("order", "asha", "o-1") == "748b96edca4f5a88396d72e2da3b8467"


@pytest.mark.parametrize(
    "text",
    ["", "5" * 31, "5" * 33, "5" * 31 + "A", "5" * 31 + "g", "5" * 15 + " " + "5" * 16, "५" * 32],
)
def test_what_is_none_is_said(text: str) -> None:
    with pytest.raises(BadSagaIdError, match=f"^{text!r} is not a valid saga id: it must be 32"):
        SagaId(text)
