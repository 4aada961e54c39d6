"""Rows of files that are imported: each is good, or bad by line and field."""

from __future__ import annotations

import codecs
import json
import random
from collections.abc import Iterable, Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as some

from recourse.imports.lines import BadFileError, Line, lines
from recourse.imports.rows import BadRow, Format, Reader, Row
from recourse.ledger.record import digest
from statemachines import SAGAS
from statemachines.order import ORDER
from statemachines.travel_booking import TRAVEL_BOOKING

HEADER = (
    "trip_id,traveller.name,traveller.email,flight.id,flight.seats,"
    "hotel.id,hotel.rooms,hotel.nights,payment.account_id"
)
LONG = "x" * 1_000_000


def trip(number: int, name: str = "Asha Rao", seats: str = "1") -> str:
    return f"t-{number},{name},asha@example.com,AI-202,{seats},taj-delhi,1,3,acct-asha"


def read(
    text: str | bytes, format: Format = "csv", *, missing: Iterable[str] = (), saga: Any = None
) -> list[Row | BadRow]:
    raw = text.encode() if isinstance(text, str) else text
    reader = Reader(saga or TRAVEL_BOOKING, format, lambda names: [*missing])
    # In chunks of any size it is the same.
    size = random.Random(len(raw)).randrange(1, 5000)
    return list(reader.read(raw[at : at + size] for at in range(0, len(raw), size)))


def told(found: list[Row | BadRow]) -> list[Any]:
    """Good rows by their line, bad ones whole."""
    return [one.line if isinstance(one, Row) else tuple(one) for one in found]


def csv(*rows: str) -> str:
    return "\n".join([HEADER, *rows, ""])


def test_a_cell_is_what_the_class_of_the_request_says() -> None:
    (found,) = read(csv(trip(1)))
    assert isinstance(found, Row)
    assert found.request["flight"] == {"id": "AI-202", "seats": 1}
    assert found.request["car"] is None
    sent = {name: one for name, one in found.request.items() if one is not None}
    assert found.body == digest(sent)


def test_columns_of_a_list_have_numbers() -> None:
    header = "order_id,customer.name,customer.email,lines.0.sku,lines.0.quantity,lines.1.sku"
    rows = (
        "o-1,Asha,asha@example.com,kettle-1l,1,mug-blue,2,acct-asha",
        "o-2,Asha,asha@example.com,kettle-1l,1,,,acct-asha",
    )
    text = "\n".join([f"{header},lines.1.quantity,payment.account_id", *rows])
    first, second = read(text, saga=ORDER)
    assert isinstance(first, Row) and isinstance(second, Row)
    assert [one["sku"] for one in first.request["lines"]] == ["kettle-1l", "mug-blue"]
    assert len(second.request["lines"]) == 1


def test_what_comes_from_a_spreadsheet_is_read() -> None:
    text = csv(trip(1), "", trip(2), "  ").replace("\n", "\r\n").replace(",", ";")
    assert told(read(codecs.BOM_UTF8 + text.encode())) == [2, 4]


def test_a_cell_may_have_line_breaks_and_separators() -> None:
    first, second = read(csv(trip(1, '"Rao, Asha"'), trip(2, "'Asha'")))
    assert isinstance(first, Row) and first.request["traveller"]["name"] == "Rao, Asha"
    assert second.line == 3
    assert told(read(csv(trip(1, '"Asha\nRao"'), trip(2)))) == [
        (2, "traveller.name", "must not contain U+000A, which is invisible"),
        4,
    ]


@pytest.mark.parametrize(
    ("row", "field", "why"),
    [
        (trip(1, seats="two"), "flight.seats", "valid integer"),
        (trip(1, seats="10"), "flight.seats", "less than or equal to 9"),
        (trip(1, seats="9" * 5000), "flight.seats", "valid integer"),
        (trip(1, seats=""), "flight.seats", "Field required"),
        (trip(1) + ",more", "", "must have 9 cells, as the first line, has 10"),
        ("t-1,Asha Rao", "", "must have 9 cells, as the first line, has 2"),
        (trip(1, "A\0sha"), "", "must not have NULs, has one at byte 6"),
        (trip(1, LONG), "", "must be at most 65536 bytes, and is longer"),
        (trip(1, '"Asha'), "", "has a quotation mark that is not closed"),
        (trip(1, '"As"ha"'), "", "has a quotation mark that is not closed"),
        (trip(1, "As\rha"), "", "must be CSV by RFC 4180"),
        (trip(1, "Asha\u2028Rao"), "traveller.name", "U+2028"),
        (trip(9), "trip_id", "is that of line 2 already"),
    ],
)
def test_a_bad_row_is_named_and_the_others_are_read(row: str, field: str, why: str) -> None:
    found = read(csv(trip(9), row, trip(3), trip(4)))
    bad = found[1]
    assert [one.line for one in found] == [2, 3, 4, 5]
    assert isinstance(bad, BadRow) and (bad.field, why in bad.why) == (field, True), bad
    assert all(isinstance(one, Row) for one in (found[0], *found[2:]))


def test_latin_1_is_named_by_its_byte() -> None:
    text = csv(trip(1), trip(2, "José")).encode("latin-1")
    good, bad = read(text)
    assert good.line == 2
    why = "must be UTF-8, got 0xE9 at byte 8: save the file as UTF-8"
    assert bad == BadRow(3, "", why)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (b"", "the file is empty"),
        (b"\n\n", "the file is empty"),
        (trip(1), "line 1: must name the columns, and each must be a field of travel-booking"),
        (HEADER.replace("flight.id", "flight.number"), "got 'flight.number'"),
        (f"{HEADER},trip_id", "must name each column once, has 'trip_id' twice"),
        (f"{HEADER},flight", "must name 'flight' or what is within it"),
        ("flight.id", "must name the column 'trip_id'"),
        (f"{HEADER},{LONG}", "line 1: the line must be at most 65536 bytes"),
        (csv(trip(1)).encode("utf-16"), "must be UTF-8, and is UTF-16"),
        (csv(trip(1)).encode("utf-32"), "must be UTF-8, and is UTF-32"),
        (csv(trip(1)).encode("utf-16-le"), "line 1: the line must not have NULs"),
    ],
)
def test_a_file_of_which_nothing_can_be_read_says_why(text: str | bytes, why: str) -> None:
    with pytest.raises(BadFileError, match=why.replace("(", r"\(")):
        read(text)


REQUEST = {
    "trip_id": "t-1",
    "traveller": {"name": "Asha\u2028Rao", "email": "asha@example.com"},
    "flight": {"id": "AI-202", "seats": 1},
    "hotel": {"id": "taj-delhi", "rooms": 1, "nights": 3},
    "payment": {"account_id": "acct-asha"},
}


def test_each_line_of_json_is_a_request() -> None:
    good = json.dumps(REQUEST | {"traveller": {"name": "Asha", "email": "a@example.com"}})
    rows = [
        good,
        "",
        "{",
        "[]",
        json.dumps(REQUEST, ensure_ascii=False),
        good.replace("t-1", "t-2"),
        good.replace("{", '{"x": 1, ', 1).replace("t-1", "t-3"),
        "[" * 100_000,
        json.dumps({"trip_id": LONG}),
        '{"trip_id": "t-4", "trip_id": "t-5"}',
    ]
    found = read("\r\n".join(rows), "jsonl")
    assert [one.line for one in found] == [1, 3, 4, 5, 6, 7, 8, 9, 10]
    assert [one.line for one in found if isinstance(one, Row)] == [1, 6]
    fields = {one.line: one.field for one in found if isinstance(one, BadRow)}
    assert fields == {3: "", 4: "", 5: "traveller.name", 7: "x", 8: "", 9: "", 10: ""}


def test_documents_must_be_there() -> None:
    request = REQUEST | {"traveller": {"name": "A", "email": "a@example.com"}}
    text = json.dumps(request | {"documents": {"passport": "passports/a.pdf"}})
    assert told(read(text, "jsonl")) == [1]
    bad = (1, "documents.passport", "you have no such document")
    assert told(read(text, "jsonl", missing=["passports/a.pdf"])) == [bad]


@given(some.lists(some.binary(max_size=30)), some.integers(1, 40))
def test_lines_are_the_same_in_whatever_chunks_they_come(texts: list[bytes], size: int) -> None:
    raw = b"a" + b"\n".join(texts)  # no byte order mark

    def chunks() -> Iterator[bytes]:
        yield from (raw[at : at + size] for at in range(0, len(raw), size))

    wanted = raw.split(b"\n")
    wanted = wanted[:-1] if wanted[-1] == b"" else wanted
    assert list(lines(chunks())) == [
        Line(number, one.removesuffix(b"\r")) for number, one in enumerate(wanted, 1)
    ]


@given(some.text(alphabet='a,"\n;\r\0\u2028é', max_size=200))
def test_whatever_a_csv_has_each_line_is_told_once_at_most(text: str) -> None:
    found = [one.line for one in read(f"{HEADER}\n{text}")]
    assert found == sorted(set(found))


@pytest.mark.of_all
@pytest.mark.parametrize("saga", SAGAS.values(), ids=SAGAS)
def test_every_saga_has_columns(saga: Any) -> None:
    with pytest.raises(BadFileError, match=f"a field of {saga.name} such as"):
        read("no such column", saga=saga)
