"""Where a person's data are: the tables and buckets of one deployment."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, fields

from recourse.errors import RecourseError


class PlacesError(RecourseError, ValueError):
    """The text does not say where the data are."""


@dataclass(frozen=True, kw_only=True)
class Places:
    """The tables and buckets of a deployment, by the names that AWS knows them by.

    Attributes:
        ledger: The ledger's table.
        feed: The table of feeds.
        services: The table of each service.
        consumers: The own table of each consumer and subscriber that has one.
        keeps: The text in these tables that stays: the reason, by consumer and field.
        webhooks: The table of webhooks; empty where a deployment has none, as for those below.
        connections: The table of connections and of limits by owner.
        valet: The valet table.
        imports: The table of imports; their files are in the bucket of uploads.
        uploads: The bucket of valet keys.
        documents: The bucket of documents that steps store.
    """

    ledger: str
    feed: str
    services: Mapping[str, str]
    consumers: Mapping[str, str] = field(default_factory=dict)
    keeps: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    webhooks: str = ""
    connections: str = ""
    valet: str = ""
    imports: str = ""
    uploads: str = ""
    documents: str = ""

    @classmethod
    def parse(cls, text: str) -> Places:
        """The places that a JSON object names, as the output `Places` of the stack has it.

        Raises:
            PlacesError: It is not one.
        """
        try:
            found = json.loads(text)
            known = {one.name for one in fields(cls)}
            return cls(**{name: value for name, value in found.items() if name in known})
        except (ValueError, TypeError, AttributeError) as problem:
            raise PlacesError(f"this does not name tables and buckets: {problem}") from problem
