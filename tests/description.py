"""The API's description as it is committed, which is what the API answers."""

import json
from pathlib import Path
from typing import Any

FILE = Path(__file__).parents[1] / "lambdas" / "api" / "openapi.json"
DESCRIPTION: dict[str, Any] = json.loads(FILE.read_text())
