"""What functions carry of packages of which they need but a part is what they use."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from recourse.declare.money import MINOR_DIGITS, Money
from recourse.project import Project
from services.invoices import FONTS
from tests.infra.assembly import ROOT

pytestmark = pytest.mark.xdist_group("infra")

PROJECT = Project.find(ROOT)


def packages_in(folder: Path) -> Path:
    """The packages of which functions carry only a part, as they carry them."""
    from recourse.cdk import code

    for name in {one.partition("/")[0] for one in PROJECT.only}:
        spec = find_spec(name)
        assert spec and spec.origin
        shutil.copytree(Path(spec.origin).parent, folder / name)
    code.prune(folder, PROJECT.only)
    return folder


def test_what_functions_carry_of_babel_shows_money_of_every_currency(tmp_path: Path) -> None:
    shows = """
import babel, json, sys
from recourse.declare.money import MINOR_DIGITS, Money
json.dump([babel.__file__, {one: Money(1234567, one).shown() for one in MINOR_DIGITS}], sys.stdout)
"""
    path = os.pathsep.join([str(packages_in(tmp_path)), *sys.path])
    ran = subprocess.run(
        [sys.executable, "-c", shows], env=os.environ | {"PYTHONPATH": path}, capture_output=True
    )
    assert ran.returncode == 0, ran.stderr.decode()
    where, shown = json.loads(ran.stdout)
    assert Path(where).is_relative_to(tmp_path)
    assert shown == {one: Money(1234567, one).shown() for one in MINOR_DIGITS}
    few = {one: shown[one].replace("\xa0", " ") for one in ("JPY", "KRW", "KWD", "EUR")}
    assert few == {
        "JPY": "JPY 1,234,567",
        "KRW": "KRW 1,234,567",
        "KWD": "KWD 1,234.567",
        "EUR": "EUR 12,345.67",
    }
    size = sum(file.stat().st_size for file in (tmp_path / "babel").rglob("*.*"))
    assert size < 3_000_000


def test_what_functions_carry_of_the_fonts_is_what_invoices_look_into(tmp_path: Path) -> None:
    there = {path.name for path in (packages_in(tmp_path) / "manimgx_fonts").glob("*.[to]tf")}
    assert there == {file for package, file in FONTS if package == "manimgx_fonts"}
