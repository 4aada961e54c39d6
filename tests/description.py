"""The API's description as it is committed, which is what the API answers, and what it allows."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

FILE = Path(__file__).parents[1] / "lambdas" / "api" / "openapi.json"
DESCRIPTION: dict[str, Any] = json.loads(FILE.read_text("utf-8"))


@dataclass(frozen=True)
class Described:
    """An operation as the description has it.

    Attributes:
        method: Its method.
        path: Its path, with `{name}` where something is to be put in.
        says: What is said of it.
    """

    method: str
    path: str
    says: Mapping[str, Any]

    def __str__(self) -> str:
        return f"{self.method} {self.path}"

    @property
    def scope(self) -> str | None:
        """The scope that it needs."""
        return next((need["bearer"][0] for need in self.says["security"]), None)

    @property
    def example(self) -> Any:
        """The example of its body; None where it has none."""
        content = self.says.get("requestBody", {"content": {}})["content"].values()
        return next((one["example"] for one in content if "example" in one), None)

    @property
    def in_path(self) -> dict[str, Any]:
        """The parts of its path, each with its example; None where it has none."""
        parts = [one for one in self.says.get("parameters", []) if one["in"] == "path"]
        return {one["name"]: one.get("example") for one in parts}

    @cached_property
    def answers(self) -> dict[int, set[str]]:
        """The statuses that it answers, each with the types of problems that it may be."""
        found = {}
        for status, answer in self.says["responses"].items():
            if "$ref" in answer:
                name = answer["$ref"].rpartition("/")[2]
                answer = DESCRIPTION["components"]["responses"][name]
            schema = answer.get("content", {}).get("application/problem+json", {}).get("schema", {})
            kinds = [part["properties"]["type"]["enum"] for part in schema.get("allOf", [])[1:]]
            found[int(status)] = {kind for enum in kinds for kind in enum}
        return found

    @property
    def problems(self) -> set[str]:
        """The kinds of problems that it may be refused with."""
        return {urn.rpartition(":")[2] for types in self.answers.values() for urn in types}

    def fits(self, method: str, path: str) -> bool:
        """Whether it is what a request calls."""
        template = re.sub(r"{\w+}", "[^/]+", self.path)
        return method == self.method and re.fullmatch(template, path) is not None


OPERATIONS = [
    Described(method.upper(), path, says)
    for path, operations in DESCRIPTION["paths"].items()
    for method, says in operations.items()
]


def called(method: str, path: str) -> Described | None:
    """The operation that a request calls; the one whose path is that very path comes first."""
    fitting: Iterator[Described] = (one for one in OPERATIONS if one.fits(method, path))
    return min(fitting, key=lambda one: len(one.in_path), default=None)


def must_be_described(method: str, path: str, status: int, text: str) -> None:
    """An answer is one that the description has for what was called; a problem by its type."""
    operation = called(method, path)
    if operation is None:
        return
    assert status in operation.answers, f"{operation} does not say that it answers {status}: {text}"
    if types := operation.answers[status]:
        kind = json.loads(text)["type"]
        assert kind in types, f"{operation} does not say that it answers {kind}"
