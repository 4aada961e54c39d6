"""Money over 10,000 random sagas of every kind, asked for by sixteen clients at once.

Each piece is a town of its own (`tests/integration/conserving.py`): accounts, stock and a card
provider, sagas under faults, cancels, decisions, reversals and repetitions, in both coordinations.
A piece in which a single unit is missing, or a saga has no good end, fails by name and seed.
"""

from __future__ import annotations

from collections import Counter
from functools import partial

from bench.apart import apart
from bench.figures import Figure, say
from tests.integration.conserving import CLIENTS, KINDS, town

SAGAS, PIECE = 10_000, 400
ENDS = ("SUCCEEDED", "COMPENSATED")


def measure() -> list[Figure]:
    """Run them in pieces, and hold accounts, things and books against what was asked for."""
    all_of_them: Counter[str] = Counter()
    for seed in range(SAGAS // PIECE):
        figures = apart(partial(_piece, seed))
        all_of_them.update(figures)
        say(f"piece {seed}: {figures['seconds']} s; {sum(_ended(figures))} sagas have ended")
    return _table(all_of_them)


def _piece(seed: int) -> Counter[str]:
    with town(seed, PIECE) as played:
        return played.figures


def _ended(figures: Counter[str]) -> list[int]:
    kinds = (*KINDS, "reversal")
    return [sum(figures[f"{kind} {end}"] for kind in kinds) for end in ENDS]


def _table(figures: Counter[str]) -> list[Figure]:
    succeeded, compensated = _ended(figures)
    reversals = sum(figures[f"reversal {end}"] for end in ENDS)
    befell = ", ".join(
        f"{figures[what]:,} {what}"
        for what in (
            *("faults", "abort", "cancel", "kill", "cancelled", "decided", "asked again"),
            *("the provider's faults", "tried again by an operator"),
        )
    )
    kinds = "; ".join(
        f"{kind} " + " and ".join(f"{figures[f'{kind} {end}']:,}" for end in ENDS)
        for kind in (*KINDS, "reversal")
    )
    return [
        Figure(
            what="sagas that have ended, and as their markers say",
            size=f"{SAGAS:,} and {reversals:,} reversals, {CLIENTS} clients at once, "
            f"{figures['seconds']:,} s",
            figure=f"{succeeded:,} SUCCEEDED and {compensated:,} COMPENSATED: {kinds}",
            alternative=f"begun: {SAGAS + reversals:,}. What befell them: {befell}",
            ratio=(succeeded + compensated) / (SAGAS + reversals),
            least=1,
            most=1,
        ),
        *(
            Figure(
                what=what,
                size=size,
                figure=f"{figures[f'{name}, as {shown}']:,}",
                alternative="reckoned from the requests and ends of the sagas: "
                f"{figures[f'{name}, as reckoned']:,}",
                ratio=figures[f"{name}, as {shown}"] / figures[f"{name}, as reckoned"],
                least=1,
                most=1,
            )
            for what, name, shown, size in (
                (
                    "money in all accounts, nothing of it held",
                    "in accounts",
                    "shown",
                    f"{figures['minor units moved']:,} minor units moved",
                ),
                (
                    "seats, rooms, cars, items and places confirmed, none held",
                    "confirmed",
                    "shown",
                    f"{figures['looks at all accounts and things']:,} looks at all of them "
                    "meanwhile",
                ),
                (
                    "captured in the card provider's books, each once",
                    "captured",
                    "booked",
                    f"{figures['card-order SUCCEEDED']:,} card orders that SUCCEEDED of "
                    f"{sum(figures[f'card-order {end}'] for end in ENDS):,}",
                ),
            )
        ),
    ]
