"""From the files of the project to the folder that the site is built of.

What a page of docs/ is on GitHub, it is in the site: a link to a file of the project is led to
where the site has that file, and a link to what the site does not have is an error.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import tomllib
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any

from recourse.choreography import routing
from statemachines import SAGAS
from tests.guide import api, sagas, sequence
from tests.guide.svg import SITE_STYLE

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
DRAWINGS = DOCS / "images" / "sagas"
PICTURES = (".png", ".svg")
"""What is shown on pages as it is."""
OUTSIDE = {
    "README.md": "index.md",
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
    "LICENSE": "LICENSE",
    "llms.txt": "llms.txt",
    "docs/decisions": "decisions/index.md",
}
"""What the site has of the project besides docs/, by where it is there."""
LATER = {"console.md"}
"""Pages that have their place before they are written."""
KINDS = {"machine": sagas.machine, "choreography": sagas.choreography}
CSP = (
    "default-src 'self'; script-src 'self' 'unsafe-inline'; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data:; worker-src 'self' blob:; object-src 'none'; base-uri 'self'; "
    "form-action 'self'"
)
"""Whatever the theme could load from elsewhere is refused by the browser."""
HEAD = (
    '{% extends "base.html" %}\n{% block site_meta %}\n'
    f'<meta http-equiv="Content-Security-Policy" content="{CSP}">\n'
    "{{ super() }}\n{% endblock %}\n"
)
CSS = (
    SITE_STYLE
    + """.diagram { overflow-x: auto; margin: 1.2em 0; }
.diagram svg { display: block; min-width: 34rem; width: 100%; height: auto; }
.md-typeset table:not([class]) td { min-width: 4rem; }
.md-typeset td:first-child code { white-space: nowrap; }
.md-grid { max-width: 68rem; }
"""
)
LINK = re.compile(r"(!?)\[((?:[^][]|\[[^]]*\])*)\]\(([^)\s]+)\)")
FENCE = re.compile(r"^( *)(`{3,})([^`\n]*)\n(.*?)^\1\2\n", re.DOTALL | re.MULTILINE)
CODE = re.compile(r"(`+)(?:(?!\1).)+?\1", re.DOTALL)


class GuideError(Exception):
    """A page cannot be built; the message says which, and what of it is wrong."""


def write(into: Path) -> Path:
    """Write all that the site is built of into a folder, and say where its configuration is."""
    pages = into / "pages"
    shutil.rmtree(into, ignore_errors=True)
    for path, text in sorted(texts().items()):
        file = pages / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    for image in (*DOCS.glob("*.svg"), *DOCS.glob("images/**/*.*")):
        file = pages / image.relative_to(DOCS)
        file.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(image, file)
    (pages / "guide.css").write_text(CSS)
    (into / "theme").mkdir()
    (into / "theme" / "main.html").write_text(HEAD)
    configuration = into / "guide.yml"
    configuration.write_text(configured({path for path in texts() if path.endswith(".md")}))
    return configuration


def texts() -> dict[str, str]:
    """The text of every page, by its path in the site."""
    found = {
        "api.md": api.page(json.loads((ROOT / "lambdas/api/openapi.json").read_text())),
        "decisions/index.md": _decisions(),
        **{f"sagas/{name}.md": saga_page(name) for name in SAGAS},
    }
    where = _where()
    for source, path in where.items():
        file = ROOT / source
        if file.is_file() and path not in found and file.suffix not in PICTURES:
            text = file.read_text()
            if file.suffix == ".md":
                text = outside_code(text, partial(_linked, source=source, where=where))
                text = FENCE.sub(partial(_drawn, source=source), text)
            elif source == "llms.txt":
                text = outside_code(text, partial(_linked, source=source, where=where))
                text = re.sub(r"\.md([)#])", r".html\1", text)
            found[path] = text
    return found


def _where() -> dict[str, str]:
    """Where the site has each file of the project that a page may lead to."""
    docs = {
        str(page.relative_to(ROOT)): str(page.relative_to(DOCS))
        for page in (*DOCS.rglob("*.md"), *DOCS.glob("images/**/*.*"), *DOCS.glob("*.svg"))
    }
    charts = {f"statemachines/{name}.choreography.md": f"sagas/{name}.md" for name in SAGAS}
    text = {source: path for source, path in docs.items() if path.endswith(".md")}
    return {**OUTSIDE, **(docs | text), **charts}


def outside_code(text: str, change: Callable[[str], str]) -> str:
    """A text with what is no code in it changed."""
    parts, end = [], 0
    for code in sorted((*FENCE.finditer(text), *CODE.finditer(text)), key=lambda one: one.start()):
        if code.start() >= end:
            parts += [change(text[end : code.start()]), code[0]]
            end = code.end()
    return "".join([*parts, change(text[end:])])


def _linked(text: str, source: str, where: dict[str, str]) -> str:
    def led(link: re.Match[str]) -> str:
        image, label, target = link.groups()
        if re.match(r"[a-z]+:|#", target):
            return link[0]
        path, hash_sign, anchor = target.partition("#")
        named = os.path.normpath(PurePosixPath(source).parent / path)
        if named not in where:
            raise GuideError(f"{source} links to {target}, which the guide does not have")
        here = PurePosixPath(where[source]).parent
        there = os.path.relpath(where[named], here)
        if image and (ROOT / named).parent == DRAWINGS:
            return f"\n{_inline((ROOT / named).read_text())}\n"
        if label == path and named.endswith(".md"):  # on GitHub a path says most, here a title
            label = _title(ROOT / named)
        return f"{image}[{label}]({there}{hash_sign}{anchor})"

    return LINK.sub(led, text)


def _drawn(fence: re.Match[str], source: str) -> str:
    """A fence as it is in the site: a diagram's drawing, or the fence."""
    if fence[3].strip() != "mermaid":
        return fence[0]
    return _inline(sequence.drawing(fence[4], f"a diagram of {source}")) + "\n"


def _inline(svg: str) -> str:
    return f'<div class="diagram">{svg.replace(chr(10), "")}</div>\n'


def saga_page(name: str) -> str:
    """The page of one saga: all of it follows from its declaration."""
    shape = SAGAS[name]
    rows = "".join(f"| {step} | {acts} | {back} |\n" for step, acts, back in routing.table(shape))
    return (
        f"# The saga `{name}`\n\n"
        "Drawn from its declaration when this guide was built. What the drawings say is explained "
        "in [concepts](../concepts.md).\n\n"
        "## As a state machine\n\n"
        f"{_inline(sagas.machine(shape))}\n"
        "Solid arrows are what comes next, dashed ones what is caught. An undo that fails is "
        "caught too: the others still run, and then the saga is parked.\n\n"
        "## As a choreography\n\n"
        f"{_inline(sagas.choreography(shape))}\n"
        "The same as a table; a step after several waits for all of them, and `*` is the pivot:\n\n"
        f"| step | acts on | undoes on |\n|---|---|---|\n{rows}"
    )


def _decisions() -> str:
    lines = []
    for page in sorted((DOCS / "decisions").glob("*.md")):
        lines.append(f"- [{_title(page)}]({page.name})")
    return "# Decisions\n\nWhy it is built so, a page each.\n\n" + "\n".join(lines) + "\n"


def _title(page: Path) -> str:
    return page.read_text().partition("\n")[0].removeprefix("# ")


def configured(pages: set[str]) -> str:
    """The configuration of Zensical, as YAML: docs/guide.toml with its order of pages looked up.

    Raises:
        GuideError: a page has no place in the order, or more than one; or a place has no page.
    """
    configuration = tomllib.loads((DOCS / "guide.toml").read_text())
    placed: list[str] = []

    def look_up(entries: list[Any]) -> Iterator[Any]:
        for entry in entries:
            if isinstance(entry, dict):
                yield {title: [*look_up(inner)] for title, inner in entry.items()}
                continue
            if entry.endswith("/*"):
                found = sorted(page for page in pages if page.startswith(entry[:-1]))
                found.sort(key=lambda page: not page.endswith("/index.md"))
                title = entry[:-2].capitalize()
                placed.extend(found)
                yield {title: found}
            elif entry in pages or entry not in LATER:
                placed.append(entry)
                yield entry

    configuration["nav"] = [*look_up(configuration["nav"])]
    wrong = {page for page in pages if placed.count(page) != 1} ^ ({*placed} - pages)
    if wrong:
        raise GuideError(
            f"docs/guide.toml must have each page once, and no other: {', '.join(sorted(wrong))}"
        )
    configuration |= {
        "docs_dir": "pages",
        "site_dir": "site",
        "use_directory_urls": False,
        "extra_css": ["guide.css"],
        "extra": {"generator": False},
    }
    configuration["theme"]["custom_dir"] = "theme"
    configuration["markdown_extensions"]["toc"] = {"permalink": True, "slugify": "SLUGIFY"}
    # Headings are linked as on GitHub.
    slugify = "!!python/object/apply:pymdownx.slugs.slugify {kwds: {case: lower}}"
    return json.dumps(configuration, indent=2).replace('"SLUGIFY"', slugify)


def drawings() -> dict[Path, str]:
    """The drawings of sagas that pages of docs/ show: GitHub shows them too, so they are kept."""
    shown = {
        image
        for page in DOCS.glob("*.md")
        for image in re.findall(r"\]\(images/sagas/([\w-]+)\.svg\)", page.read_text())
    }
    found = {}
    for image in sorted(shown):
        name, _, kind = image.rpartition("-")
        if name not in SAGAS or kind not in KINDS:
            raise GuideError(
                f"images/sagas/{image}.svg must be <saga>-machine.svg or <saga>-choreography.svg"
            )
        found[DRAWINGS / f"{image}.svg"] = KINDS[kind](SAGAS[name])
    return found
