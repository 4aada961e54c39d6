"""The reference of what `recourse` and `recourse.cdk` name, docs/reference.md, of the docstrings.

::

    python -m tests.reference           # write it
    python -m tests.reference --check   # write nothing; fail if it is out of date
"""

from __future__ import annotations

import ast
import inspect
import re
import sys
import textwrap
from collections.abc import Iterator
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Any

import recourse
from recourse import cdk

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "reference.md"
COMMAND = "python -m tests.reference"
HEAD = f"""# Reference

What can be imported from `recourse`, and the constructs of `recourse.cdk`; all of it is
[stable](stability.md). Made of the docstrings by `{COMMAND}`, and tests run the
examples: `flights`, `payments` and the like in them are services of this repository, `call` is what
a step is given, and a construct's `stack`, `stage`, `services` and so on are what the examples
before have made.
"""
SECTION = re.compile(r"(Args|Attributes|Returns|Raises|Usage):")
GROUPS = {
    "Declare a saga": "Saga Step Together Retry request_model Checked Moment collect",
    "Write its steps": "action undo confirm Call Decision Put Update AtLeast Item Document "
    "ExistingTable Money SagaId",
    "Let somebody decide": "Wait Question Answer Refused",
    "Receive its events": "Consumer Subscriber Message Event Inbox",
    "Deploy (`recourse.cdk`)": "Stage Services EventBackbone Orchestration Choreography Consumers "
    "ValetKeys Imports Webhooks LiveChannels Issuer CognitoIssuer SignIn SagaApi Console "
    "SagaDashboard Erasure HandlerFunction PullConsumer",
    "Errors": "RecourseError DeclarationError Refusal CurrencyMismatchError TransientError "
    "ContentionError PoisonError",
}


def public_of(name: str) -> Any:
    """What a name of the reference names."""
    return getattr(recourse if name in recourse.__all__ else cdk, name)


def members(public: type) -> dict[str, Any]:
    """What a class defines for its callers, by name: methods and properties of its own.

    Constructs call each other; of theirs it is what has an example.
    """
    found = {}
    for name, member in vars(public).items():
        plain = getattr(member, "__func__", member)
        if (
            not name.startswith("_")
            and (inspect.isfunction(plain) or isinstance(member, property | cached_property))
            and (not is_construct(public) or examples(inspect.getdoc(plain) or ""))
        ):
            found[name] = plain
    return found


def is_construct(public: type) -> bool:
    """Whether a class is one of `recourse.cdk`."""
    return public.__module__.startswith(cdk.__name__)


def docstring(name: str) -> str:
    """What a public name says of itself.

    An alias such as `Item` is no object of its own: the text that follows it in its module counts.
    """
    public = public_of(name)
    if isinstance(public, type) or inspect.isfunction(public):
        return inspect.getdoc(public) or ""
    module = sys.modules[f"recourse.{recourse._WHERE[name]}"]
    body = ast.parse(inspect.getsource(module)).body
    for made, said in pairwise(body):
        if (
            isinstance(made, ast.Assign)
            and [ast.unparse(one) for one in made.targets] == [name]
            and isinstance(said, ast.Expr)
        ):
            return inspect.cleandoc(ast.literal_eval(said.value))
    return ""


def examples(text: str) -> list[str]:
    """The blocks of code in a docstring: what is indented below a `::`."""
    return [code for is_code, code in _blocks(text) if is_code]


def page() -> str:
    """The reference."""
    groups = {title: names.split() for title, names in GROUPS.items()}
    contents = [
        f"| {title} | " + ", ".join(f"[{name}](#{name.lower()})" for name in names) + " |"
        for title, names in groups.items()
    ]
    parts = [HEAD, "\n".join(["| | |", "|---|---|", *contents]) + "\n"]
    parts += [_entry(name) for names in groups.values() for name in names]
    return "\n".join(parts).rstrip("\n") + "\n"


def _entry(name: str) -> str:
    public = public_of(name)
    parts = [f"## {name}\n"]
    if isinstance(public, type) or inspect.isfunction(public):
        parts.append(_code(_signature(name, public)))
    else:
        parts.append(_code(f"{name} = {ast.unparse(ast.parse(str(public)))}"))
    text = docstring(name)
    if isinstance(public, type):
        bases = [base for base in public.__mro__[1:] if base.__module__.startswith("recourse")]
        if bases and bases[0].__name__ not in recourse.__all__ and not _sections(text):
            text += _sections(inspect.getdoc(bases[0]) or "")
    parts.append(_prose(text))
    for member, found in members(public).items() if isinstance(public, type) else ():
        function = found if inspect.isfunction(found) else None
        shown = f"{name}.{member}"
        parts.append(f"### `{_signature(shown, function, short=True) if function else shown}`\n")
        parts.append(_prose(inspect.getdoc(found) or ""))
    return "\n".join(parts)


def _signature(name: str, public: Any, *, short: bool = False) -> str:
    """How it is called; what is not written out is a `...`."""
    if isinstance(public, type) and issubclass(public, BaseException):
        return f"class {name}({public.__bases__[0].__name__})"
    shown = []
    keyword_only = False
    # The metaclass of constructs takes anything.
    made = vars(public).get("__init__") if isinstance(public, type) else None
    signature = inspect.signature(made or public)
    for one in [*signature.parameters.values()][1 if short or made else 0 :]:  # without self
        if one.kind is one.KEYWORD_ONLY and not keyword_only:
            shown.append("*")
            keyword_only = True
        keyword_only |= one.kind is one.VAR_POSITIONAL
        star = "*" if one.kind is one.VAR_POSITIONAL else ""
        hint = getattr(one.annotation, "__forward_arg__", one.annotation)
        text = star + one.name if short else f"{star}{one.name}: {hint}"
        if one.default is not one.empty:
            equals = "=" if short else " = "
            text += equals + (repr(one.default) if _is_plain(one.default) else "...")
        shown.append(text)
    returns = f" -> {signature.return_annotation}" if inspect.isfunction(public) else ""
    line = f"{name}({', '.join(shown)})" + ("" if short else returns)
    if short or len(line) <= 88:
        return line
    return f"{name}(\n" + "".join(f"    {one},\n" for one in shown) + ")" + returns


def _sections(text: str) -> str:
    """From its first section on."""
    found = re.search(rf"\n\n{SECTION.pattern}\n", text)
    return text[found.start() :] if found else ""


def _is_plain(value: object) -> bool:
    return value is None or isinstance(value, bool | int | float | str | tuple)


def _code(text: str) -> str:
    return f"```python\n{text.rstrip()}\n```\n"


def _prose(text: str) -> str:
    """A docstring as Markdown."""
    parts = [_code(block) if is_code else _listed(block) for is_code, block in _blocks(text)]
    return "\n".join(part for part in parts if part)


def _blocks(text: str) -> Iterator[tuple[bool, str]]:
    """The code in a docstring, and what is around it, in order."""
    around: list[str] = []
    lines = text.splitlines()
    while lines:
        line = lines.pop(0)
        if not line.endswith("::"):
            around.append(line)
            continue
        if line not in ("::", "Usage::"):
            around.append(line[:-1])
        code = []
        while lines and (not lines[0] or lines[0].startswith(" ")):
            code.append(lines.pop(0))
        yield False, "\n".join(around)
        yield True, textwrap.dedent("\n".join(code)).strip("\n")
        around = []
    yield False, "\n".join(around)


def _listed(text: str) -> str:
    """What is around code: sections of Google's style become lists."""
    out: list[str] = []
    inside = False
    for line in text.strip("\n").splitlines():
        if SECTION.fullmatch(line):
            inside = True
            out += [line, ""]
        elif not line.startswith(" "):
            inside = inside and not line
            out.append(line)
        elif inside:
            entry = re.fullmatch(r"    ([\w*]+): (.*)", line)
            out.append(f"- `{entry[1]}`: {entry[2]}" if entry else line.removeprefix(" " * 6))
    return "\n".join(out) + "\n" if out else ""


def main(arguments: list[str]) -> None:
    """Write the page, or check it.

    Raises:
        SystemExit: It is out of date.
    """
    text = page()
    if arguments != ["--check"]:
        PAGE.write_text(text, "utf-8")
    elif not PAGE.exists() or PAGE.read_text("utf-8") != text:
        raise SystemExit(f"out of date: {PAGE.relative_to(ROOT)}; run `{COMMAND}`")


if __name__ == "__main__":
    main(sys.argv[1:])
