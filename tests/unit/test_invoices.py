"""An invoice says what is owed in any currency and script, under a number of its own."""

from __future__ import annotations

import unicodedata
from dataclasses import replace
from typing import Any

import pypdfium2
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recourse import Call, Money
from recourse.declare.ids import SagaId
from recourse.text import is_id
from services import invoices
from tests.prices import money
from tests.unit.test_services import CALL


def order(*lines: tuple[str, Money], key: str = "o-1") -> Call[Any]:
    listed = [
        {"sku": sku, "quantity": 1, "price": money(price.amount, price.currency)}
        for sku, price in lines
    ]
    total = Money.total(price for _, price in lines)
    result = {"price": money(total.amount, total.currency), "lines": listed}
    return replace(CALL, results={"inventory": result}, business_key=key)


def issued(call: Call[Any]) -> bytes:
    """The PDF."""
    return invoices.issue(call).documents[0].body


def said(invoice: bytes) -> str:
    """What the PDF says, without spaces: extracting guesses those from distances."""
    with pypdfium2.PdfDocument(invoice) as document:
        pages = [page.get_textpage().get_text_range() for page in document]
    return "".join("".join(pages).split())


@pytest.mark.parametrize(
    ("price", "shown"),
    [
        (Money(4800, "JPY"), "JPY4,800"),
        (Money(4800, "KRW"), "KRW4,800"),
        (Money(4800, "KWD"), "KWD4.800"),
        (Money(4800, "COP"), "COP48.00"),  # which CLDR alone would show as 48, or as 4,800
        (Money(4805, "IQD"), "IQD4.805"),
        (Money(123456789, "INR"), "INR1,234,567.89"),
    ],
)
def test_an_amount_has_the_minor_units_of_its_currency(price: Money, shown: str) -> None:
    text = said(issued(order(("kettle", price))))
    assert f"kettle1{shown}" in text and f"Total{shown}" in text


@pytest.mark.parametrize(
    "sku",
    [
        *("Příliš-žluťoučký-kůň", "чайник", "τσαγιέρα", "kettle-₹-€"),
        *("日本語のやかん", "中文水壶", "한국어주전자"),
        *("தமிழ்", "বাংলা", "తెలుగు", "ภาษาไทย"),
        *("a|b", "{nb}", "**a**", "a?"),
    ],
)
def test_a_sku_is_printed_in_its_own_script(sku: str) -> None:
    text = said(issued(order((sku, Money(1, "INR")), key=f"order-{sku}")))
    assert f"{sku}1INR0.01" in text
    assert f"order-{sku}" in text


@pytest.mark.parametrize(
    "sku",
    [
        *("नमस्ते", "किताब", "مرحبا", "שלום", "សួស្តី"),
        *("ગુજરાતી", "ಕನ್ನಡ", "മലയാളം", "ਪੰਜਾਬੀ", "ଓଡ଼ିଆ", "සිංහල"),
        *("ພາສາລາວ", "မြန်မာ", "Հայերեն", "ქართული", "አማርኛ", "☎"),
    ],
)
def test_a_script_whose_letters_move_or_join_is_shaped_from_its_own_font(sku: str) -> None:
    """How such text is extracted differs by reader; no letter is a sign for what is missing."""
    text = said(issued(order((sku, Money(1, "INR")))))
    assert "U+" not in text and "?" not in text
    assert set(sku) <= set(text)


# Tibetan where Gujarati stood, which has a font by now.
@pytest.mark.parametrize(("sku", "shown"), [("tea-😀", "tea-[U+1F600]"), ("བོ", "[U+0F56][U+0F7C]")])
def test_a_character_that_no_font_has_is_printed_as_its_code_point(sku: str, shown: str) -> None:
    assert f"{shown}1INR0.01" in said(issued(order((sku, Money(1, "INR")))))


@settings(max_examples=15, deadline=None)
@given(st.text(st.characters(codec="utf-8", exclude_categories=["C"]), min_size=1).filter(is_id))
def test_whatever_is_an_id_can_be_printed(sku: str) -> None:
    call = order((sku[:64], Money(1, "INR")), key=sku[:128])
    invoice = issued(call)
    assert invoice == issued(call)
    text = said(invoice)
    assert "?" not in text or "?" in unicodedata.normalize("NFKC", sku)


def test_the_fonts_are_opened_only_by_what_needs_them() -> None:
    assert len(issued(order(("kettle", Money(1, "INR"))))) < 40_000


IDS = st.text("0123456789abcdef", min_size=32, max_size=32).map(SagaId)


@given(IDS, IDS)
def test_two_sagas_never_have_the_same_number(one: SagaId, other: SagaId) -> None:
    numbers = {
        invoices.number_of("INV", replace(CALL, saga_id=saga_id)) for saga_id in (one, other)
    }
    assert len(numbers) == len({one, other})


def test_sagas_whose_ids_begin_alike_have_different_numbers() -> None:
    ids = [SagaId("5a9a1d00" + "0" * 23 + last) for last in "12"]
    results = {"flight": {"price": money(1, "INR"), "quantity": 1}}
    one, other = (
        invoices.issue(replace(CALL, saga_id=saga_id, results=results)).result["invoice_id"]
        for saga_id in ids
    )
    assert one == "INV-20261124-5A9A1D00-00000000-00000000-00000001"
    assert other == "INV-20261124-5A9A1D00-00000000-00000000-00000002"


def test_an_invoice_says_what_is_covered_and_that_the_rest_is_owed() -> None:
    results = {
        "appointment": {"price": money(1001, "INR"), "quantity": 1},
        "claim": {"covered": money(750, "INR")},
    }
    call = replace(CALL, results=results)
    text = said(issued(call))
    assert "appointment1INR10.01" in text and "claim-INR7.50" in text
    assert "TotalINR2.51" in text
    assert invoices.issue(call).result["amount"] == money(251, "INR")
