"""Payments: from a voucher, which is worth so much and is used up.

A provider elsewhere is called in an external action, `@action(external=True)`.
"""

from dataclasses import dataclass

from recourse import Call, Decision, Money, Put, Refusal, action


class VoucherTooSmallError(Refusal):
    """The voucher is worth less than the price."""


@dataclass(frozen=True, kw_only=True)
class Voucher:
    """What a voucher is worth, in minor units."""

    amount: int
    currency: str


@dataclass(frozen=True, kw_only=True)
class PayAsk:
    """What pays."""

    voucher: Voucher


@action(PayAsk, refuses=[VoucherTooSmallError])
def pay(call: Call[PayAsk]) -> Decision:
    """Pay the price of the seats: with this the booking is decided."""
    price = Money.of(call.results["seats"]["price"])
    voucher = call.ask.voucher
    if voucher.currency != price.currency or voucher.amount < price.amount:
        raise VoucherTooSmallError(f"the price is {price}")
    payment = {"pk": f"payment#{call.saga_id}", "amount": price, "status": "PAID"}
    return Decision(result={"paid": price}, writes=[Put(payment)])
