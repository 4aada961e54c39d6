"""What the documentation names is there, where it says, and every module has its line there."""

from __future__ import annotations

import re
from importlib import import_module
from pathlib import Path

import pytest

import recourse

ROOT = Path(__file__).parents[2]
DOCS = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "llms.txt")),
    *sorted((ROOT / "docs").rglob("*.md")),
]
HOUSE = (ROOT / "docs" / "architecture.md").read_text()
PATH = re.compile(
    r"(?<![\w./-])(?:bench|cli|docs|infra|lambdas|local|recourse|samples|services|statemachines"
    r"|tests)/[\w./*-]*"
)
NAME = re.compile(r"(?<![\w./-])(?:recourse|lambdas|infra)(?:\.\w+)+(?![\w-]|\.\*)")
IMPORT = re.compile(r"^from (recourse[\w.]*) import ([\w, ]+)$", re.MULTILINE)
TO_WRITE = re.compile(r"^`([\w./-]+)`[^\n]*:\n\n```", re.MULTILINE)
NOT_MODULES = re.compile(r"recourse\.(v1$|webhook\.|order\.)")
"""A subprotocol, and types of events."""
LONG = 405
"""Lines, above which a module says why it has them."""
CODE = ("bench", "infra", "lambdas", "recourse", "samples", "services", "statemachines")


def stem(path: str) -> str:
    return path.rpartition("/")[2].partition(".")[0].replace("-", "_")


def there(name: str) -> bool:
    """Whether a dotted name is a module, or in one."""
    parts = name.split(".")
    for length in range(len(parts), 0, -1):
        path = ROOT.joinpath(*parts[:length])
        if path.with_suffix(".py").exists() or (path / "__init__.py").exists():
            found: object = import_module(".".join(parts[:length]))
            for part in parts[length:]:
                if not hasattr(found, part):
                    return False
                found = getattr(found, part)
            return True
    return False


@pytest.mark.parametrize("page", DOCS, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_path_and_module_that_a_page_names_is_there(
    page: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RECOURSE_SAGAS", "statemachines:SAGAS")  # the default API is of these
    text = page.read_text()
    written = {stem(path) for path in TO_WRITE.findall(text)}
    named = {path.rstrip(".") for path in PATH.findall(text)}
    missing = [path for path in named if stem(path) not in written and not [*ROOT.glob(path)]]
    names = {name for name in NAME.findall(text) if not NOT_MODULES.match(name)}
    names |= {
        f"{module}.{name.split()[0]}"
        for module, imported in IMPORT.findall(text)
        for name in imported.split(",")
    }
    missing += [name for name in names if not there(name)]
    assert sorted(missing) == []


@pytest.mark.parametrize("page", DOCS, ids=lambda page: str(page.relative_to(ROOT)))
def test_an_example_imports_what_is_public_from_recourse_itself(page: Path) -> None:
    private = [
        f"from {module} import {name.strip()}"
        for module, imported in IMPORT.findall(page.read_text())
        for name in imported.split(",")
        if module != "recourse" and name.strip() in recourse.__all__
    ]
    assert private == []


def anchors(page: Path) -> set[str]:
    """What the headings of a page are linked by."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", one.lower()).replace(" ", "-") for one in headings}


@pytest.mark.parametrize("page", DOCS, ids=lambda page: str(page.relative_to(ROOT)))
def test_a_link_within_the_project_leads_to_a_file_and_a_heading(page: Path) -> None:
    broken = []
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
        path, _, anchor = target.partition("#")
        if path.startswith("http"):
            continue
        file = (page.parent / path).resolve() if path else page
        if not file.exists() or (anchor and anchor not in anchors(file)):
            broken.append(target)
    assert broken == []


def test_the_overview_for_assistants_has_the_form_of_llms_txt_and_names_every_page() -> None:
    """A title, a summary, and sections of links, each with what it is about (llmstxt.org)."""
    head, *sections = re.split(r"^## ", (ROOT / "llms.txt").read_text(), flags=re.MULTILINE)
    assert re.fullmatch(r"# Recourse\n\n(> .*\n)+\n(.+\n)+\n", head)
    linked = []
    for section in sections:
        title, *lines = section.strip().splitlines()
        links = [re.fullmatch(r"- \[[^]]+\]\(([^)]+)\): .+", line) for line in lines if line]
        assert title and links and all(links), section
        linked += [link[1] for link in links if link]
    pages = [str(page.relative_to(ROOT)) for page in (ROOT / "docs").glob("*.md")]
    assert sorted({*linked} & {*pages}) == sorted(pages) and len({*linked}) == len(linked)


def modules() -> list[str]:
    """Every module of the library and of the infrastructure.

    Not those that are added one by one (services, sagas, consumers and subscribers), nor the app
    that `recourse new` writes.
    """
    return sorted(
        str(path.relative_to(ROOT))
        for package in ("recourse", "infra")
        for path in (ROOT / package).rglob("*.py")
        if path.name != "__init__.py" and "template" not in path.parts
    )


def test_the_house_has_a_line_for_every_module_and_for_no_other() -> None:
    rooms = re.split(r"^### `([\w/]+)/`", HOUSE, flags=re.MULTILINE)[1:]
    lines = [
        f"{room}/{name}.py"
        for room, text in zip(rooms[::2], rooms[1::2], strict=True)
        for row in re.findall(r"^\| (`[\w/`, ]+`) \|", text.partition("\n## ")[0], re.MULTILINE)
        for name in re.findall(r"[\w/]+", row)
    ]
    own = [line for line in lines if line.startswith(("recourse/", "infra/"))]
    assert sorted(own) == modules()


def test_a_module_that_is_long_says_why() -> None:
    modules = [module for folder in CODE for module in (ROOT / folder).rglob("*.py")]
    long = [module for module in modules if len(module.read_text().splitlines()) > LONG]
    said = {one: "longer than other modules" in one.read_text() for one in long}
    assert modules and [str(one) for one, why in said.items() if not why] == []
