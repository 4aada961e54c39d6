"""Seeds the services through the operators' API."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx

from recourse.errors import RecourseError

Ask = Callable[[str, str, Any], int]
"""Makes a call of a method, a path and a JSON body; its status."""


class SeedError(RecourseError, ValueError):
    """The file has no holdings; the message says how it must be."""


def holdings(file: Path) -> dict[str, Any]:
    """The paths of the holdings in a file, with the body of the PUT of each.

    The file is {"flights": {"AI-202": {…the body of the PUT}}, …}.

    Raises:
        SeedError: It is another.
        OSError: It cannot be read.
    """
    try:
        kinds = json.loads(file.read_text(encoding="utf-8"))
        return {
            f"/{quote(kind, safe='')}/{quote(name, safe='')}": body
            for kind, things in kinds.items()
            for name, body in things.items()
        }
    except (ValueError, AttributeError) as problem:
        raise SeedError(
            f'{file} must be JSON such as {{"flights": {{"AI-202": {{…}}}}}}: {problem}'
        ) from None


def seed(ask: Ask, file: Path) -> Iterator[tuple[str, bool]]:
    """PUT each holding of a file that does not exist yet: each path, and whether it was put.

    Existing ones stay as they are: their counts and balances belong to what goes on there.
    """
    for path, body in holdings(file).items():
        is_new = ask("GET", path, None) == 404
        if is_new:
            ask("PUT", path, body)
        yield path, is_new


def by_token(http: httpx.Client, token: str) -> Ask:
    """Calls of an API with a token; an error but 404 is raised."""

    def ask(method: str, path: str, body: Any) -> int:
        headers = {"Authorization": f"Bearer {token}"}
        answer = http.request(method, path, headers=headers, json=body)  # None sends no body
        if answer.status_code != 404:
            answer.raise_for_status()
        return answer.status_code

    return ask
