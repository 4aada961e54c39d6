"""Invoices: a PDF under a key made from the saga, and a row that is voided, never deleted."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Any

from recourse import Call, Decision, Document, Money, Put, Update, action, undo


def invoice_key(call: Call) -> str:
    """The key of the saga's invoice."""
    return f"invoice#{call.saga_id}"


@action(documents=True)
def issue(call: Call) -> Decision:
    """Write the invoice over the prices of the earlier steps."""
    number = f"INV-{call.started_at[:10].replace('-', '')}-{call.saga_id[:8].upper()}"
    lines = list(_lines(call))
    amount = Money.total(line["price"] for line in lines)
    document = Document(
        key=f"invoices/{call.saga_id}.pdf",
        body=_pdf(call, number, lines, amount),
        content_type="application/pdf",
    )
    result = {"invoice_id": number, "object": document.key, "amount": amount}
    row = {"pk": invoice_key(call), "saga_id": call.saga_id, "status": "ISSUED", "lines": lines}
    return Decision(
        result=result, writes=[Put(row | result | {"owner": call.owner})], documents=[document]
    )


@undo(reads=lambda call: [invoice_key(call)])
def void(call: Call) -> Decision:
    """Void the invoice; its row and its PDF stay."""
    return Decision(
        result={"status": "VOIDED"},
        writes=[Update(invoice_key(call), put={"status": "VOIDED"}, when={"status": "ISSUED"})],
    )


def _lines(call: Call) -> Iterator[dict[str, Any]]:
    """A line for each priced result, or for each of its own `lines` where it has any."""
    for step, result in call.results.items():
        if result and "price" in result:
            for line in result.get("lines", [result]):
                text, quantity = line.get("sku", step), line.get("quantity", 1)
                yield {"text": text, "quantity": quantity, "price": Money.of(line["price"])}


def _pdf(call: Call, number: str, lines: list[dict[str, Any]], amount: Money) -> bytes:
    """The same saga gives the same bytes, so that storing them again changes nothing."""
    from fpdf import FPDF  # only an invoice needs it, and it takes a while to load

    pdf = FPDF()
    pdf.set_creation_date(datetime.fromisoformat(call.started_at))
    pdf.set_title(number)
    pdf.add_page()
    pdf.set_font("helvetica", "B", 16)
    pdf.cell(text=f"Invoice {number}", new_x="LMARGIN", new_y="NEXT")
    pdf.set_font("helvetica", size=11)
    pdf.cell(text=_plain(f"{call.saga} {call.business_key}"), new_x="LMARGIN", new_y="NEXT")
    pdf.ln(6)
    with pdf.table(col_widths=(60, 20, 40), text_align=("LEFT", "RIGHT", "RIGHT")) as table:
        table.row(("Item", "Quantity", "Price"))
        for line in lines:
            table.row((_plain(line["text"]), str(line["quantity"]), _price(line["price"])))
        table.row(("Total", "", _price(amount)))
    return bytes(pdf.output())


def _price(price: Money) -> str:
    return f"{price.currency} {price.amount // 100:,}.{price.amount % 100:02d}"


def _plain(text: str) -> str:
    """Text that the PDF's built-in font has; what it lacks becomes a question mark."""
    return text.encode("latin-1", "replace").decode("latin-1")
