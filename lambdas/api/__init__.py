"""The HTTP API of this deployment: the library's routes, and those of its holdings."""

from __future__ import annotations

from pathlib import Path

from lambdas.api import holdings
from recourse.functions.api.app import Api

INFO = {
    "title": "Recourse",
    "version": "0.1.0",
    "description": "Sagas that complete every step, or undo them all.",
}
API = Api(INFO, Path(__file__).with_name("openapi.json"), own=[holdings.routes])
handler = API.handler
