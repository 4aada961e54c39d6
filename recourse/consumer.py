"""What the file of a consumer or a subscriber declares: what it hears, and what it may do.

Both listen to the topic `feed` on their own account. A consumer pulls: a queue keeps what it hears
until it takes it. A subscriber is pushed to by SNS. The file has the declaration beside the rules
and the handler, and everything else follows from it: function, queues, subscription, rights::

    CONSUMER = Consumer(
        "Tally",
        hears={"kind": ["started", "succeeded"]},
        may={"table": ["dynamodb:PutItem", "dynamodb:UpdateItem"]},
    )


    def handle(message: Message) -> None: ...
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from typing import TypeVar

from recourse.saga import DeclarationError

ATTRIBUTES = ("type", "saga", "kind", "step", "outcome", "owner")
"""What of an event can be listened for: its message attributes (`recourse.events.attributes`)."""
LONGEST_NAME = 40
"""A function's name in CloudFormation has 64 characters, its stage and a suffix included."""
SERVICES = {"table": "dynamodb", "ledger": "dynamodb", "feed": "dynamodb", "sender": "ses"}
EXAMPLES = {"dynamodb": "PutItem", "ses": "SendEmail"}


@dataclass(frozen=True)
class Declaration:
    """What a consumer and a subscriber have in common.

    Attributes:
        name: What operators call it; its function, its queues and its table are named for it.
        hears: The values of the message attributes of what it hears; all of the feed where it is
            empty.
        may: The actions that it is allowed, by what they are allowed on:

            - `table`, a table of its own, which is there for that; `<NAME>_TABLE` in its
              environment has its name;
            - `ledger` and `feed`, whose tables' names are `LEDGER_TABLE` and `FEED_TABLE`;
            - `sender`, the address in `SENDER` that the stage sends mail from; empty and without
              rights where it has none.

    Raises:
        DeclarationError: It could not be deployed, or would never hear anything.
    """

    name: str
    hears: Mapping[str, Sequence[str]] = field(default_factory=dict)
    may: Mapping[str, Sequence[str]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not re.fullmatch(rf"[A-Z][A-Za-z0-9]{{1,{LONGEST_NAME - 1}}}", self.name):
            raise DeclarationError(
                f"{self.name!r}: a name must be a capital letter and then letters and digits, "
                f"2 to {LONGEST_NAME} together"
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

    def variable(self, what: str) -> str:
        """The environment variable that says to its functions which table or sender that is."""
        return {
            "table": f"{self.name.upper()}_TABLE",
            "ledger": "LEDGER_TABLE",
            "feed": "FEED_TABLE",
            "sender": "SENDER",
        }[what]


@dataclass(frozen=True)
class Consumer(Declaration):
    """A consumer: its module has a `handler` for a function, and a `handle` for a worker."""


@dataclass(frozen=True)
class Subscriber(Declaration):
    """A subscriber: its module has a `handler` for a function."""


Declared = TypeVar("Declared", bound=Declaration)


def declared(package: str, kind: type[Declared]) -> dict[str, Declared]:
    """What the modules of a package declare.

    Args:
        package: The package, `lambdas.consumers`.
        kind: `Consumer` or `Subscriber`; each module has one, as `CONSUMER` or `SUBSCRIBER`.

    Returns:
        The declarations by their modules' names, `lambdas.consumers.tally`, in that order.

    Raises:
        DeclarationError: A module declares none, or two have one name.
    """
    from pkgutil import iter_modules  # no function looks for others

    found: dict[str, Declared] = {}
    path = import_module(package).__path__
    name = kind.__name__.upper()
    for module in sorted(one.name for one in iter_modules(path, f"{package}.")):
        declaration = getattr(import_module(module), name, None)
        if not isinstance(declaration, kind):
            raise DeclarationError(f"{module} must declare a {kind.__name__} called {name}")
        if declaration.name in {one.name for one in found.values()}:
            raise DeclarationError(f"{module}: there are two of the name {declaration.name}")
        found[module] = declaration
    return found
