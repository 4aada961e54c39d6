"""The guide: it is built strictly, of every page, and loads nothing from elsewhere."""

from __future__ import annotations

import json
import re
import threading
import tomllib
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from hypothesis import given, settings

from recourse import Saga
from recourse.orchestration.compiler import compile_saga
from statemachines import SAGAS
from tests.browser import tab
from tests.guide import links, pages, sagas, sequence
from tests.guide.__main__ import build
from tests.patience import until
from tests.statemachines.test_judged import shapes

DESCRIPTION = json.loads((pages.ROOT / "lambdas/api/openapi.json").read_text())
SEARCH = "[...document.querySelectorAll('div')].find((one) => one.shadowRoot)?.shadowRoot"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("guide"))


def visible(page: Path) -> str:
    """What of a page is no markup."""
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", "", page.read_text()))


@pytest.mark.xdist_group("guide")
def test_the_guide_has_every_page_and_no_link_of_it_is_broken(site: Path) -> None:
    """Whether a link, a heading or a page is wrong, or anything is loaded, `build` has seen."""
    written = {str(page.relative_to(pages.DOCS)) for page in pages.DOCS.rglob("*.md")}
    written |= {f"sagas/{saga}.md" for saga in SAGAS}
    written |= {"api.md", "changelog.md", "contributing.md", "index.md", "decisions/index.md"}
    built = {str(page.relative_to(site)) for page in site.rglob("*.html")}
    assert built == {re.sub(r"\.md$", ".html", page) for page in written} | {"404.html"}
    assert links.broken(site) == []
    assert all(pages.CSP in page.read_text() for page in site.rglob("*.html"))


@pytest.mark.xdist_group("guide")
def test_the_front_page_is_the_readme_and_a_link_says_where_it_leads(site: Path) -> None:
    shown = visible(site / "index.html")
    assert "has no ROLLBACK" in shown
    assert "docs/guarantees.md" not in shown and "The guarantees, and how each is kept" in shown
    assert "start.html" in (site / "llms.txt").read_text()


@pytest.mark.xdist_group("guide")
def test_every_call_and_every_schema_of_the_api_is_on_its_page(site: Path) -> None:
    shown = visible(site / "api.html")
    for path, methods in DESCRIPTION["paths"].items():
        for method, operation in methods.items():
            assert f"{method.upper()} {path}" in shown
            assert operation["summary"].partition("'")[0] in shown
    found = (site / "api.html").read_text()
    for schema in DESCRIPTION["components"]["schemas"]:
        assert f'id="schema-{schema.lower()}"' in found


@pytest.fixture
def served(site: Path) -> Iterator[str]:
    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, format: str, *arguments: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(site))) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.mark.xdist_group("guide")
def test_a_browser_asks_nobody_else_and_finds_what_it_searches(served: str) -> None:
    with tab() as browser:
        for page in ("index.html", "concepts.html", "sagas/travel-booking.html", "webhooks.html"):
            browser.open(f"{served}/{page}")
            there = partial(browser.run, "location.pathname + document.readyState")
            until(there, page, f"/{page}complete".__eq__)
            asked = browser.run("performance.getEntriesByType('resource').map((one) => one.name)")
            assert asked and all(one.startswith((served, "data:")) for one in asked), asked
        assert browser.run("document.querySelectorAll('svg.drawing').length") == 1
        assert browser.run("document.querySelectorAll('.mermaid').length") == 0
        browser.run("document.querySelector('.md-search__button').click()")
        until(lambda: browser.run(f"Boolean({SEARCH}?.querySelector('input'))"), "the search")

        def found() -> str:
            browser.run(f"{SEARCH}.querySelector('input').select()")
            browser.insert("tombstone")
            return str(browser.run(f"{SEARCH}.querySelector('[role=listbox]').innerText"))

        until(found, "what the search finds", lambda said: "Concepts" in said, pause=0.5)
        assert browser.problems == []


def test_a_link_that_the_site_does_not_have_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(
        pages.GuideError, match=r"docs/a\.md links to \.\./app\.py, which the guide"
    ):
        pages._linked("[the app](../app.py)", "docs/a.md", {})


def test_what_is_in_code_is_no_link() -> None:
    text = "see `[a](b.md)` and\n```text\n[c](d.md)\n```\nand [e](f.md)\n"
    changed = pages.outside_code(text, lambda part: part.replace("](", "]("[::-1]))
    assert "`[a](b.md)`" in changed and "\n[c](d.md)\n" in changed and "[e](](" not in changed
    assert changed.count("](") == 2


@pytest.mark.parametrize(
    ("found", "wrong"),
    [
        pytest.param({"more.md"}, "more.md", id="a page without a place"),
        pytest.param(set(), "start.md", id="a place without a page"),
    ],
)
def test_each_page_has_one_place_and_each_place_a_page(found: set[str], wrong: str) -> None:
    there = {path for path in pages.texts() if path.endswith(".md")}
    there = there | found if found else there - {"start.md"}
    with pytest.raises(pages.GuideError, match=f"each page once, and no other: {wrong}"):
        pages.configured(there)


def test_a_page_that_is_written_later_has_its_place_already() -> None:
    there = {path for path in pages.texts() if path.endswith(".md")}
    assert pages.LATER
    for page in pages.LATER:
        assert f'"{page}"' not in pages.configured(there - {page})
        assert f'"{page}"' in pages.configured(there | {page})


def test_links_that_lead_nowhere_and_what_is_loaded_are_seen(tmp_path: Path) -> None:
    (tmp_path / "a.html").write_text(
        '<h1 id="here">A</h1><a href="b.html">B</a><a href="#here">1</a><a href="#gone">2</a>'
        '<a href="https://example.com/">3</a><img src="//cdn.example/a.png">'
        '<script src="https://cdn.example/a.js"></script>'
    )
    (tmp_path / "a.css").write_text('@import "https://fonts.example/f.css"; b { top: url(c.png) }')
    assert links.broken(tmp_path) == [
        "a.html: loads //cdn.example/a.png",
        "a.html: loads https://cdn.example/a.js",
        "a.html: b.html: there is no such file",
        "a.html: #gone: there is no such heading",
        "a.css: loads https://fonts.example/f.css",
    ]


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("A->>B: a; b", "A->>B: a; b"),
        ("A->>C: who is C", "A->>C: who is C"),
        ("A->>A: itself", "A->>A: itself"),
        ("Note over A: text", "Note over A: text"),
    ],
)
def test_a_line_of_a_diagram_that_is_not_understood_is_refused(line: str, said: str) -> None:
    source = f"sequenceDiagram\n participant A as API\n participant B as Bucket\n {line}\n"
    with pytest.raises(sequence.SequenceError, match=f"is not understood in 'a page': '{said}'"):
        sequence.drawing(source, "a page")


def test_another_kind_of_diagram_is_refused() -> None:
    with pytest.raises(sequence.SequenceError, match="must begin with sequenceDiagram"):
        sequence.drawing("flowchart LR\n a --> b\n", "a page")


@pytest.mark.of_all
@pytest.mark.parametrize("saga", SAGAS.values(), ids=SAGAS)
def test_every_saga_is_drawn_with_every_transition_of_its_machine(saga: Saga) -> None:
    states = compile_saga(saga)["States"]
    transitions = {*sagas._transitions(states)}
    drawn = sagas.machine(saga)
    assert drawn.count("marker-end") == len(transitions) + 1, "each arrow, and the first one"
    for step in saga.all:
        assert f">{step.name}<" in drawn
        assert f">{step.name}" in sagas.choreography(saga)


@settings(deadline=None)
@given(shapes())
def test_a_saga_of_any_shape_is_drawn(saga: Saga) -> None:
    transitions = {*sagas._transitions(compile_saga(saga)["States"])}
    assert sagas.machine(saga).count("marker-end") == len(transitions) + 1
    assert all(f">{step.name}" in sagas.choreography(saga) for step in saga.all)


def test_the_lines_of_packages_are_those_that_are_enforced() -> None:
    contracts = tomllib.loads((pages.ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]
    around, within = (one["layers"] for one in contracts["contracts"][:2])
    text = (pages.DOCS / "architecture.md").read_text()
    shown = [
        re.split(r"\s+→\s+", block.strip())
        for block in re.findall(r"^```text\n(.*?)^```$", text, re.M | re.S)
    ]
    assert shown[0] == [*reversed(around), "app.py"]
    beside = {"text", "problems", "tools", "extras", "project | upgrade", "__main__"}
    assert [{*one.split(" | ")} for one in shown[1]] == [
        {*one.split(" | ")} for one in reversed(within) if one not in beside
    ]
