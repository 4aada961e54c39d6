"""The HTTP API of this deployment: what every one has of it, and what its services hold."""

from __future__ import annotations

from pathlib import Path

from lambdas.api import holdings
from recourse.functions.api.app import Api

INFO = {
    "title": "Recourse",
    "version": "0.1.0",
    "description": "Sagas that end as booked or as if they had never been.",
}
API = Api(INFO, Path(__file__).with_name("openapi.json"), own=[holdings.routes])
handler = API.handler
