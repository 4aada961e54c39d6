"""The API of a deployment that has no routes of its own: `recourse.functions.api.default.handler`.

Its description is `openapi.json` beside the module that lists the sagas.
"""

from __future__ import annotations

import sys
from pathlib import Path

from recourse.functions import kit, settings
from recourse.functions.api.app import Api

INFO = {
    "title": "Sagas",
    "version": "1",
    "description": "Sagas that complete every step, or undo them all.",
}
kit.sagas()  # loaded now: Lambda gives a start more CPU time than a request
_listed = sys.modules[settings.required("RECOURSE_SAGAS").partition(":")[0]]
API = Api(INFO, Path(str(_listed.__file__)).with_name("openapi.json"))
handler = API.handler
