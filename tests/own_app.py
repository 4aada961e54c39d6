"""The app of docs/in-your-cdk-app.md, as somebody has it who follows that page."""

from __future__ import annotations

import re
from pathlib import Path

from tests import ROOT

PAGE = (ROOT / "docs" / "in-your-cdk-app.md").read_text()
FILES = dict(re.findall(r"^`([\w./-]+)`:\n\n```python\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE))
(SETTINGS,) = re.findall(r"^```toml\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)


def write(folder: Path) -> None:
    """Write the page's files, and what such a project has besides."""
    for name, text in FILES.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    (folder / "src" / "shop" / "__init__.py").touch()
    (folder / "src" / "shop" / "mail.html").write_text("<p>Thank you</p>")
    (folder / "requirements.lock").touch()
    (folder / "pyproject.toml").write_text(SETTINGS)
    (folder / "cdk.json").write_text('{"app": "PYTHONPATH=src python app.py"}')
