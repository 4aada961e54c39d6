"""Invoices: a PDF under a key made from the saga, and a row that is voided, never deleted.

The saga that takes back what was sold issues a credit note over the invoice, which stays as it is.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING, Any, TypedDict

from recourse import Call, Decision, Document, Money, Put, Update, action, undo
from recourse.declare.step import plain
from services import prices

if TYPE_CHECKING:
    from fpdf import FPDF

SCRIPTS = (
    *(
        "",
        "Devanagari",
        "Bengali",
        "Tamil",
        "Telugu",
        "Gujarati",
        "Kannada",
        "Malayalam",
        "Gurmukhi",
    ),
    *("Oriya", "Sinhala", "Arabic", "Hebrew", "Thai", "Lao", "Khmer", "Myanmar", "Armenian"),
    *("Georgian", "Ethiopic", "Symbols"),
)
FONTS = (
    *(("manimgx_fonts", f"NotoSans{script}[wght].ttf") for script in SCRIPTS),
    # Chinese, Japanese and Korean; last, since it takes a quarter of a second to open.
    ("noto_cjk_sans_jp_regular", "NotoSansCJKjp-Regular.otf"),
)
"""The package and the file of each font, in the order in which they are looked into; the first has
Latin, Greek and Cyrillic."""
UNUSED = ("avar", "fvar", "gvar", "HVAR", "MVAR", "STAT")
"""The tables of a font's other weights, which are a quarter of an invoice, and of its time."""


def invoice_key(call: Call) -> str:
    """The key of the saga's invoice."""
    return f"invoice#{call.saga_id}"


def number_of(kind: str, call: Call) -> str:
    """The number of the saga's document: the whole id of the saga is in it, so no two are equal."""
    groups = (call.saga_id[start : start + 8].upper() for start in range(0, 32, 8))
    return "-".join([kind, call.started_at[:10].replace("-", ""), *groups])


class Amount(TypedDict):
    """Minor units of a currency."""

    amount: int
    currency: str


class Issued(TypedDict):
    """What issuing an invoice returns."""

    invoice_id: str
    object: str
    amount: Amount


KEEPS = {
    "invoice_id": "the number of an invoice",
    "credit_note_id": "the number of a credit note",
    "object": "it names the PDF, by the id of the saga",
    "text": "what was sold, which an invoice must say",
}
"""The text of invoices and credit notes that stays when their owner's data are erased."""
KEEPS_DOCUMENTS = "invoices are kept for as long as tax law says, in many countries ten years"


@action(documents=True, keeps=KEEPS, keeps_documents=KEEPS_DOCUMENTS)
def issue(call: Call) -> Decision[Issued]:
    """Write the invoice over the prices of the earlier steps, less what they say is covered."""
    number = number_of("INV", call)
    lines = list(_lines(call))
    amount = prices.due(call.results)
    document = Document(
        key=f"invoices/{call.saga_id}.pdf",
        body=_pdf(call, f"Invoice {number}", lines, amount),
        content_type="application/pdf",
    )
    result: Issued = {"invoice_id": number, "object": document.key, "amount": plain(amount)}
    row = {"pk": invoice_key(call), "saga_id": call.saga_id, "status": "ISSUED", "lines": lines}
    return Decision(
        result=result, writes=[Put({**row, **result, "owner": call.owner})], documents=[document]
    )


@undo(reads=lambda call: [invoice_key(call)])
def void(call: Call) -> Decision:
    """Void the invoice; its row and its PDF stay."""
    return Decision(
        result={"status": "VOIDED"},
        writes=[Update(invoice_key(call), put={"status": "VOIDED"}, when={"status": "ISSUED"})],
    )


@dataclass(frozen=True, kw_only=True)
class Invoice:
    """An invoice, by its number, and what it is over."""

    invoice_id: str
    amount: Money


@dataclass(frozen=True, kw_only=True)
class CreditAsk:
    """The invoice to credit."""

    invoice: Invoice


@action(CreditAsk, documents=True, keeps=KEEPS, keeps_documents=KEEPS_DOCUMENTS)
def credit(call: Call[CreditAsk]) -> Decision:
    """Write a credit note over an invoice."""
    invoice, number = call.ask.invoice, number_of("CRN", call)
    lines = [{"text": f"Invoice {invoice.invoice_id}", "quantity": 1, "price": invoice.amount}]
    document = Document(
        key=f"invoices/{call.saga_id}.pdf",
        body=_pdf(call, f"Credit note {number}", lines, invoice.amount),
        content_type="application/pdf",
    )
    result = {
        "credit_note_id": number,
        "invoice_id": invoice.invoice_id,
        "object": document.key,
        "amount": invoice.amount,
    }
    row = {"pk": f"credit-note#{call.saga_id}", "saga_id": call.saga_id, "status": "ISSUED"}
    return Decision(
        result=result, writes=[Put(row | result | {"owner": call.owner})], documents=[document]
    )


def _lines(call: Call) -> Iterator[dict[str, Any]]:
    """A line for each priced result, or for each of its own `lines` where it has any.

    Then one for each that says what is covered.
    """
    for step, result in call.results.items():
        if result and "price" in result:
            for line in result.get("lines", [result]):
                text, quantity = line.get("sku", step), line.get("quantity", 1)
                yield {"text": text, "quantity": quantity, "price": Money.of(line["price"])}
    for step, part in prices.covered(call.results).items():
        yield {"text": step, "covered": part}


def _pdf(call: Call, title: str, lines: list[dict[str, Any]], amount: Money) -> bytes:
    """The same saga gives the same bytes, so that storing them again changes nothing."""
    from fpdf import FPDF, FontFace  # only an invoice needs it, and it takes a while to load
    from fpdf.fonts import TTFFont

    about = f"{call.saga} {call.business_key}"
    pdf = FPDF()
    pdf.set_creation_date(datetime.fromisoformat(call.started_at))
    pdf.set_title(title)
    pdf.alias_nb_pages("")  # else `{nb}` in a text becomes the number of pages
    lacking = _embed_fonts(pdf, about + "".join(line["text"] for line in lines))
    pdf.add_page()
    pdf.set_font(FONTS[0][1], size=14)
    pdf.multi_cell(0, text=title, new_x="LMARGIN", new_y="NEXT")
    pdf.set_font_size(11)
    pdf.multi_cell(0, text=about.translate(lacking), new_x="LMARGIN", new_y="NEXT")
    pdf.ln(6)
    with pdf.table(
        col_widths=(60, 20, 40),
        text_align=("LEFT", "RIGHT", "RIGHT"),
        headings_style=FontFace(),  # bold by default, for which there is no font
    ) as table:
        table.row(("Item", "Quantity", "Price"))
        for line in lines:
            text = line["text"].translate(lacking)
            if "covered" in line:
                table.row((text, "", f"-{line['covered'].shown()}"))
            else:
                table.row((text, str(line["quantity"]), line["price"].shown()))
        table.row(("Total", "", amount.shown()))
    body = bytes(pdf.output())
    for font in pdf.fonts.values():
        if isinstance(font, TTFFont):
            font.ttfont.close()
    return body


def _embed_fonts(pdf: FPDF, text: str) -> dict[int, str]:
    """Give a PDF the fonts that a text needs, of which only the glyphs used are embedded.

    Returns:
        What to write for each character that no font has: its code point, as `[U+1F600]`.
    """
    lacking = set(map(ord, text))
    for package, file in FONTS:
        if pdf.fonts and not lacking:
            break
        path = str(files(package) / file)
        has = _characters(path)
        if pdf.fonts and not lacking & has:
            continue
        pdf.add_font(file, "", path)
        lacking -= has
    for font in pdf.fonts.values():
        tables: Any = font.ttfont  # type: ignore[union-attr]
        for tag in UNUSED:
            if tag in tables:
                del tables[tag]
    pdf.set_fallback_fonts([*pdf.fonts][1:], exact_match=False)
    pdf.set_text_shaping(True)  # without it Indic syllables and Arabic letters do not join
    return {point: f"[U+{point:04X}]" for point in lacking}


@cache
def _characters(path: str) -> frozenset[int]:
    """The code points that a font has."""
    from fontTools.ttLib import TTFont

    with TTFont(path, lazy=True) as font:
        return frozenset(font.getBestCmap())
