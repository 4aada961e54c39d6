"""What is wrong with the links of a site, and what it would load from elsewhere."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit


class Page(HTMLParser):
    """What one page has: names that are linked to, links, and what it loads."""

    def __init__(self, file: Path) -> None:
        super().__init__()
        self.names: set[str] = set()
        self.links: list[str] = []
        self.loads: list[str] = []
        self.feed(file.read_text())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Take an element."""
        for name, value in attrs:
            if value is None:
                continue
            if name in ("id", "name"):
                self.names.add(value)
            elif name in ("href", "src", "data", "poster", "action"):
                if tag not in ("a", "use", "form"):
                    self.loads.append(value)
                self.links.append(value)
            elif name == "srcset":
                self.loads += [one.split()[0] for one in value.split(",")]


def broken(site: Path) -> list[str]:
    """The links within a site that lead nowhere, and all that it loads from another origin.

    ::

        broken(Path(".local/guide/site"))    # ["start.html: loads https://fonts.example/a.css"]
    """
    pages = {file: Page(file) for file in sorted(site.rglob("*.html"))}
    found = []
    for file, page in pages.items():
        at = str(file.relative_to(site))
        for target in page.loads:
            if urlsplit(target).netloc or target.startswith(("http:", "https:")):
                found.append(f"{at}: loads {target}")
        for target in page.links:
            parts = urlsplit(target)
            if parts.scheme or parts.netloc or file.name == "404.html":
                continue
            there = (file.parent / unquote(parts.path)).resolve() if parts.path else file
            if there.is_dir():
                there /= "index.html"
            if not there.is_file():
                found.append(f"{at}: {target}: there is no such file")
            elif (
                parts.fragment
                and there in pages
                and unquote(parts.fragment) not in pages[there].names
            ):
                found.append(f"{at}: {target}: there is no such heading")
    for style in site.rglob("*.css"):
        for target in re.findall(
            r"(?:url\(|@import )['\"]?((?:https?:)?//[^'\")\s]+)", style.read_text()
        ):
            found.append(f"{style.relative_to(site)}: loads {target}")
    return found
