"""The declaration of a consumer or a subscriber: which events it hears, and what it may do.

Each has its own subscription to the topic `feed`. A consumer pulls: a queue keeps its events until
it receives them. To a subscriber SNS pushes. Declaration, rules and handler are in one file, and
everything else is derived from it: function, queues, subscription, rights.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from typing import TypeVar

from recourse.errors import DeclarationError
from recourse.text import are_reasons

ATTRIBUTES = ("type", "saga", "kind", "step", "outcome", "owner")
"""The attributes of an event that can be filtered by (`recourse.events.attributes`)."""
MAX_NAME_LENGTH = 40
"""A function's name is at most 64 characters long, with its stage and a suffix."""
SERVICES = {"table": "dynamodb", "ledger": "dynamodb", "feed": "dynamodb", "sender": "ses"}
EXAMPLES = {"dynamodb": "PutItem", "ses": "SendEmail"}


@dataclass(frozen=True)
class Declaration:
    """What a consumer and a subscriber have in common.

    Attributes:
        name: Its name for operators; its function, its queues and its table are named after it.
        hears: Which events it receives: for each message attribute, the values that match. An event
            has to match all; an empty mapping matches every event of the feed.
        may: The actions that it is allowed, by resource:

            - `table`, a table of its own, created for it; the environment variable `<NAME>_TABLE`
              has its name;
            - `ledger` and `feed`, the tables in `LEDGER_TABLE` and `FEED_TABLE`;
            - `sender`, the address in `SENDER` from which the stage sends mail; where the stage has
              none, the variable is empty and no right is granted.
        keeps: Text in its own table's rows that stays when its owner's data are erased: the reason,
            by the field's name. All other text goes (docs/retention.md).

    Raises:
        DeclarationError: It could not be deployed, or would never receive anything.
    """

    name: str
    hears: Mapping[str, Sequence[str]] = field(default_factory=dict)
    may: Mapping[str, Sequence[str]] = field(default_factory=dict)
    keeps: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not re.fullmatch(rf"[A-Z][A-Za-z0-9]{{1,{MAX_NAME_LENGTH - 1}}}", self.name):
            raise DeclarationError(
                f"{self.name!r}: a name must be a capital letter and then letters and digits, "
                f"2 to {MAX_NAME_LENGTH} together"
            )
        for attribute, values in self.hears.items():
            if attribute not in ATTRIBUTES:
                raise DeclarationError(
                    f"{self.name} hears {attribute!r}: must be one of {', '.join(ATTRIBUTES)}"
                )
            if isinstance(values, str) or not values:
                raise DeclarationError(
                    f"{self.name} hears {attribute!r} of {values!r}: must be a list of values, at "
                    "least one"
                )
        for what, actions in self.may.items():
            service = SERVICES.get(what)
            if service is None:
                raise DeclarationError(
                    f"{self.name} may use {what!r}: must be one of {', '.join(SERVICES)}"
                )
            for action in actions:
                if not re.fullmatch(rf"{service}:[A-Za-z]+", action):
                    raise DeclarationError(
                        f"{self.name} may do {action!r} on its {what}: must be an action of "
                        f"{service}, such as {service}:{EXAMPLES[service]}, without a wildcard"
                    )
        if not are_reasons(self.keeps) or (self.keeps and "table" not in self.may):
            raise DeclarationError(
                f"{self.name} keeps {self.keeps!r}: must be a reason for each field of its own "
                "`table`, as in {'flight_id': 'seats are counted by it'}"
            )

    def variable(self, what: str) -> str:
        """The environment variable that names one of its resources to its functions."""
        return {
            "table": f"{self.name.upper()}_TABLE",
            "ledger": "LEDGER_TABLE",
            "feed": "FEED_TABLE",
            "sender": "SENDER",
        }[what]


@dataclass(frozen=True)
class Consumer(Declaration):
    """A consumer: its module has a `handler` for a function, and a `handle` for a worker.

    ::

        CONSUMER = Consumer(
            "Tally",
            hears={"kind": ["started", "succeeded"]},
            may={"table": ["dynamodb:PutItem", "dynamodb:UpdateItem"]},
        )

        def handle(message: Message) -> None:
            print(message.event().kind)
    """


@dataclass(frozen=True)
class Subscriber(Declaration):
    """A subscriber: its module has a `handler` for a function.

    ::

        SUBSCRIBER = Subscriber("OnCall", hears={"kind": ["compensation_failed"]})
    """


Declared = TypeVar("Declared", bound=Declaration)


def declared(package: str, kind: type[Declared]) -> dict[str, Declared]:
    """The declarations in the modules of a package.

    Args:
        package: The package, `lambdas.consumers`.
        kind: `Consumer` or `Subscriber`; each module has one, as `CONSUMER` or `SUBSCRIBER`.

    Returns:
        The declarations by their modules' names, `lambdas.consumers.tally`, in that order.

    Raises:
        DeclarationError: A module declares none, or two have one name.
    """
    from pkgutil import iter_modules  # only here: no function starts with it

    found: dict[str, Declared] = {}
    path = import_module(package).__path__
    name = kind.__name__.upper()
    for module in sorted(one.name for one in iter_modules(path, f"{package}.")):
        declaration = getattr(import_module(module), name, None)
        if not isinstance(declaration, kind):
            raise DeclarationError(f"{module} must declare a {kind.__name__} called {name}")
        if declaration.name in {one.name for one in found.values()}:
            raise DeclarationError(f"{module}: another module declares {declaration.name!r} too")
        found[module] = declaration
    return found
