"""A consumer or a subscriber that could not be deployed, or would hear nothing, is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from recourse.errors import DeclarationError
from recourse.queues.consumer import MAX_NAME_LENGTH, Consumer, Subscriber, declared

OWN = {"table": ["dynamodb:PutItem"]}


@pytest.mark.parametrize("kind", [Consumer, Subscriber])
@pytest.mark.parametrize(
    ("name", "about", "said"),
    [
        ("tally", {}, "'tally': a name must be a capital letter and then letters and digits"),
        ("T" * (MAX_NAME_LENGTH + 1), {}, "2 to 40 together"),
        ("Late", {"hears": {"status": ["done"]}}, "hears 'status': must be one of type, saga"),
        ("Late", {"hears": {"kind": "done"}}, "hears 'kind' of 'done': must be a list of values"),
        ("Late", {"hears": {"kind": []}}, "must be a list of values, at least one"),
        ("Late", {"may": {"bucket": ["s3:GetObject"]}}, "may use 'bucket': must be one of table"),
        ("Late", {"may": {"table": ["dynamodb:*"]}}, "such as dynamodb:PutItem, without a wildc"),
        ("Late", {"may": {"sender": ["sns:Publish"]}}, "must be an action of ses, such as"),
        ("Late", {"may": OWN, "keeps": {"airline": " "}}, "must be a reason for each field"),
        ("Late", {"may": OWN, "keeps": ["airline"]}, "must be a reason for each field"),
        ("Late", {"keeps": {"airline": "it is counted"}}, "for each field of its own `table`"),
    ],
)
def test_what_could_not_be_deployed_or_would_hear_nothing_is_refused(
    kind: type[Consumer] | type[Subscriber], name: str, about: dict[str, Any], said: str
) -> None:
    with pytest.raises(DeclarationError, match=f"(?s)^.*{said}"):
        kind(name, **about)


def package(folder: Path, name: str, **modules: str) -> str:
    """A package of such modules, on the path."""
    made = folder / name
    made.mkdir()
    (made / "__init__.py").write_text("")
    for module, text in modules.items():
        (made / f"{module}.py").write_text(
            f"from recourse.queues.consumer import Consumer\n{text}\n"
        )
    return name


def test_what_a_package_declares_is_found_in_the_order_of_its_modules(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    name = package(
        tmp_path,
        "some_consumers",
        b='CONSUMER = Consumer("Last")',
        a='CONSUMER = Consumer("First")',
    )
    found = declared(name, Consumer)
    assert [(module, one.name) for module, one in found.items()] == [
        ("some_consumers.a", "First"),
        ("some_consumers.b", "Last"),
    ]


@pytest.mark.parametrize(
    ("name", "modules", "said"),
    [
        ("without_one", {"a": ""}, "without_one.a must declare a Consumer called CONSUMER"),
        (
            "with_two",
            dict.fromkeys(("a", "b"), 'CONSUMER = Consumer("Same")'),
            "with_two.b: another module declares 'Same' too",
        ),
    ],
)
def test_a_module_that_declares_none_and_a_name_that_two_have_are_refused(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    modules: dict[str, str],
    said: str,
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(DeclarationError, match=said):
        declared(package(tmp_path, name, **modules), Consumer)
