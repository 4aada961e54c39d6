"""From lines of CSV or JSON Lines to requests: each row is one that can be started, or a bad one.

The first line of a CSV names its columns, which are fields of the request; those of a field within
another are dotted, and of a list numbered from 0::

    trip_id,traveller.name,flight.id,flight.seats,lines.0.sku
    t-1,Asha Rao,AI-202,2,kettle-1l

What a cell is follows from the class of the request: `2` is a number where a number is asked for.
An empty cell is a field that is left out. Columns are separated by commas, semicolons or tabs:
whichever the first line has most of.
"""

from __future__ import annotations

import csv
import json
import re
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, islice
from typing import Any, Literal, NamedTuple

from recourse.declare import limits
from recourse.declare.ids import SagaId
from recourse.declare.saga import Saga
from recourse.declare.validation import (
    DEEPEST,
    LARGEST,
    InvalidRequestError,
    adapter_of,
    validated,
)
from recourse.imports.lines import BadFileError, BadLineError, Line, lines
from recourse.ledger.record import digest
from recourse.text import MOST_DIGITS, MalformedError, read_json, shown

Format = Literal["csv", "jsonl"]
_NOT_CLOSED = "has a quotation mark that is not closed"
LOOKED_UP = 50
"""Of how many rows the documents are looked up together."""
LONGEST_WHY = 200
"""Characters of what is wrong with a row, at most."""
Missing = Callable[[Sequence[str]], Sequence[str]]


class Row(NamedTuple):
    """A row that can be started.

    Attributes:
        line: The number of its line, the first where it has several.
        request: The request, as its class writes it.
        body: The digest of what the row says (`recourse.ledger.record.digest`).
    """

    line: int
    request: Mapping[str, Any]
    body: str


class BadRow(NamedTuple):
    """A row that cannot be started.

    Attributes:
        line: The number of its line, the first where it has several.
        field: The dotted path of the field that is wrong; empty for the whole line.
        why: What is wrong with it.
    """

    line: int
    field: str
    why: str


def key_of(sha256: str, line: int) -> str:
    """The Idempotency-Key of a row: the same file starts nothing twice."""
    return f"import-{sha256}-{line}"


def saga_id_of(saga: str, owner: str, sha256: str, line: int) -> SagaId:
    """The id of the saga of a row."""
    return SagaId.of(saga, owner, key_of(sha256, line))


@dataclass
class Reader:
    """Reads the rows of one file.

    ::

        for row in Reader(saga, "csv", missing).read(chunks):
            print(row)  # Row(line=2, …) or BadRow(line=3, field="flight.seats", why="…")

    Attributes:
        saga: The saga that each row starts.
        format: What the file is.
        missing: Those of some documents that the owner does not have.
    """

    saga: Saga
    format: Format
    missing: Missing

    def read(self, chunks: Iterable[bytes]) -> Iterator[Row | BadRow]:
        """Its rows, one after the other; empty lines are none.

        Raises:
            BadFileError: Nothing of it can be imported.
        """
        rows = self._rows(lines(chunks))
        while some := list(islice(rows, LOOKED_UP)):
            good = [row.request.get("documents") or {} for row in some if isinstance(row, Row)]
            named = list(dict.fromkeys(name for one in good for name in one.values()))
            missing = set(self.missing(named)) if named else set()
            yield from (_with_documents(row, missing) for row in some)

    def _rows(self, found: Iterator[Line]) -> Iterator[Row | BadRow]:
        before: dict[int, int] = {}
        for line, sent in self._csv(found) if self.format == "csv" else _jsonl(found):
            yield self._row(line, sent, before)

    def _row(self, line: int, sent: Any, before: dict[int, int]) -> Row | BadRow:
        if isinstance(sent, BadLineError):
            return BadRow(line, "", str(sent))
        try:
            request = validated(self.saga.request, json.dumps(sent))
        except InvalidRequestError as problem:
            first = problem.errors[0]
            return BadRow(line, shown(first["field"])[:LONGEST_WHY], _short(first["message"]))
        if (size := limits.size(request)) > limits.REQUEST:
            return BadRow(line, "", f"must be at most {limits.REQUEST} bytes, got {size}")
        # The same trip, exported a second time, would be charged a second time. Hashes take a tenth
        # of the memory of what they are of, and are of 64 bits that nobody can choose.
        key = hash(request[self.saga.business_key])
        if (first_line := before.setdefault(key, line)) != line:
            return BadRow(line, self.saga.business_key, f"is that of line {first_line} already")
        return Row(line, request, digest(sent))

    # CSV.

    def _csv(self, found: Iterator[Line]) -> Iterator[tuple[int, Any]]:
        header = next((line for line in found if line.raw != b""), None)
        if header is None:
            raise BadFileError("the file is empty: its first line must name the columns")
        try:
            text = header.text
            separator = max(",;\t", key=text.count)
            cells = _cells(text, separator)
        except BadLineError as problem:
            raise BadFileError(f"line {header.number}: the line {problem}") from None
        columns = self._columns([cell.strip() for cell in cells], header.number)
        for number, record in _records(found, separator, len(columns)):
            if isinstance(record, BadLineError):
                yield number, record
            else:
                sent: dict[Any, Any] = {}
                for (path, convert), cell in zip(columns, record, strict=True):
                    if cell != "":
                        _put(sent, path, convert(cell))
                yield number, _plain(sent)

    def _columns(
        self, names: Sequence[str], line: int
    ) -> list[tuple[tuple[Any, ...], Callable[[str], Any]]]:
        """The path of each column, and what makes a value of its cells.

        Raises:
            BadFileError: One is no field, or is there twice; or none is the business key.
        """
        schema = adapter_of(self.saga.request).json_schema()
        found = []
        for name in names:
            where = _within(schema, schema, name.split("."))
            if where is None:
                fields = ", ".join(_fields(schema, schema))
                raise BadFileError(
                    f"line {line}: must name the columns, and each must be a field of "
                    f"{self.saga.name} such as {fields}, got {name[:80]!r}"
                )
            found.append(where)
        for name in names:
            if names.count(name) > 1:
                raise BadFileError(f"line {line}: must name each column once, has {name!r} twice")
            if within := [one for one in names if one.startswith(f"{name}.")]:
                raise BadFileError(
                    f"line {line}: must name {name!r} or what is within it, has {within[0]!r} too"
                )
        if self.saga.business_key not in names:
            raise BadFileError(f"line {line}: must name the column {self.saga.business_key!r}")
        return found


def _with_documents(row: Row | BadRow, missing: set[str]) -> Row | BadRow:
    """A row, which is bad where it names a document that is missing."""
    documents = row.request.get("documents") or {} if isinstance(row, Row) else {}
    for name, document in documents.items():
        if document in missing:
            return BadRow(row.line, f"documents.{name}", "you have no such document")
    return row


def _jsonl(found: Iterator[Line]) -> Iterator[tuple[int, Any]]:
    for line in found:
        if line.raw is not None and not line.raw.strip():
            continue
        try:
            yield line.number, read_json(line.text, deepest=DEEPEST)
        except BadLineError as problem:
            yield line.number, problem
        except MalformedError as problem:
            yield line.number, BadLineError(_short(f"must be JSON: {problem}"))


def _records(
    found: Iterator[Line], separator: str, columns: int
) -> Iterator[tuple[int, list[str] | BadLineError]]:
    """The records of a CSV; one whose cells have line breaks is of several lines.

    A quotation mark that nobody closes would make one record of all that follows. So where several
    lines are no record together, the first is bad, and those after it are looked at once more.
    """
    again: deque[Line] = deque()

    def following() -> Line | None:
        return again.popleft() if again else next(found, None)

    while (first := following()) is not None:
        if first.raw is not None and not first.raw.strip():
            continue
        taken = [first]
        try:
            texts = [first.text]
            size, is_open = len(texts[0]), texts[0].count('"') % 2
            while is_open:
                if (line := following()) is None:
                    raise BadLineError(_NOT_CLOSED)
                taken.append(line)
                texts.append(line.text)
                size, is_open = size + len(texts[-1]) + 1, (is_open + texts[-1].count('"')) % 2
                if size > LARGEST:
                    raise BadLineError(_NOT_CLOSED)
            cells = _cells("\n".join(texts), separator)
            if len(cells) != columns:
                raise BadLineError(
                    f"must have {columns} cells, as the first line, has {len(cells)}"
                )
            yield first.number, cells
        except BadLineError as problem:
            again.extendleft(reversed(taken[1:]))
            yield first.number, BadLineError(_NOT_CLOSED) if len(taken) > 1 else problem


def _cells(text: str, separator: str) -> list[str]:
    try:
        return next(csv.reader([text], delimiter=separator, strict=True), [])
    except csv.Error as problem:
        raise BadLineError(f"must be CSV by RFC 4180: {problem}") from None


# What the class of a request says of a column.


def _within(
    whole: Mapping[str, Any], schema: Any, path: Sequence[str]
) -> tuple[tuple[Any, ...], Callable[[str], Any]] | None:
    """The path of a field, with numbers for those of lists, and what makes its values."""
    here: list[Any] = [schema]
    found: list[Any] = []
    for part in path:
        inner: list[Any] = []
        for one in chain.from_iterable(_kinds(whole, each) for each in here):
            if part in one.get("properties", {}):
                inner.append(one["properties"][part])
            elif isinstance(one.get("additionalProperties"), Mapping) and part:
                inner.append(one["additionalProperties"])
            elif one.get("type") == "array" and part.isascii() and part.isdecimal():
                inner.append(one.get("items", {}))
        is_of_list = any(one.get("type") == "array" for each in here for one in _kinds(whole, each))
        if not inner or len(part) > 100:
            return None
        found.append(int(part) if is_of_list else part)
        here = inner
    types = {one.get("type") for each in here for one in _kinds(whole, each)}
    return tuple(found), next((_CELLS[one] for one in _CELLS if one in types), str)


def _kinds(whole: Mapping[str, Any], schema: Any) -> Iterator[Mapping[str, Any]]:
    """What a schema may be, with references followed."""
    if "$ref" in schema:
        yield from _kinds(whole, whole["$defs"][schema["$ref"].rpartition("/")[2]])
    for one in chain(schema.get("anyOf", ()), schema.get("oneOf", ()), schema.get("allOf", ())):
        yield from _kinds(whole, one)
    yield schema


def _fields(whole: Mapping[str, Any], schema: Any) -> Iterator[str]:
    """The dotted paths of a request's fields."""
    for one in _kinds(whole, schema):
        for name, inner in one.get("properties", {}).items():
            deeper = list(_fields(whole, inner))
            yield from (f"{name}.{path}" for path in deeper) if deeper else [name]
        if one.get("type") == "array":
            yield from (f"0.{path}" for path in _fields(whole, one.get("items", {})))


def _integer(cell: str) -> Any:
    # What is no number stays text, of which the class of the request says what is wrong.
    text = cell.strip()
    is_one = re.fullmatch(r"-?[0-9]+", text) and len(text) <= MOST_DIGITS
    return int(text) if is_one else cell


def _number(cell: str) -> Any:
    text = cell.strip()
    is_one = re.fullmatch(r"-?[0-9]+(\.[0-9]+)?([eE][-+]?[0-9]{1,3})?", text)
    return float(text) if is_one and len(text) <= MOST_DIGITS else cell


def _boolean(cell: str) -> Any:
    return {"true": True, "false": False}.get(cell.strip().lower(), cell)


def _json(cell: str) -> Any:
    try:
        return read_json(cell, deepest=DEEPEST)
    except MalformedError:
        return cell


_CELLS: Mapping[str, Callable[[str], Any]] = {
    "string": str,
    "integer": _integer,
    "number": _number,
    "boolean": _boolean,
    "object": _json,
    "array": _json,
}
"""What makes a value of a cell, by the type of its field; the first that it may be."""


def _put(tree: dict[Any, Any], path: Sequence[Any], value: Any) -> None:
    *within, last = path
    for part in within:
        tree = tree.setdefault(part, {})
    tree[last] = value


def _plain(tree: Any) -> Any:
    """A tree with lists where the fields have numbers, in their order."""
    if not isinstance(tree, dict):
        return tree
    if tree and all(isinstance(one, int) for one in tree):
        return [_plain(tree[number]) for number in sorted(tree)]
    return {name: _plain(one) for name, one in tree.items()}


def _short(text: str) -> str:
    text = shown(text)
    return text if len(text) <= LONGEST_WHY else f"{text[:LONGEST_WHY]} […]"
