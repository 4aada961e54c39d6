"""Signing in by the browser, booking a trip without a token option, and signing out."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from recourse.cli.logins import Login
from recourse.local.cloud import LocalCloud
from tests.browser import tab
from tests.e2e.conftest import Trip
from tests.patience import PATIENCE
from tests.signing_in import Person, sign_in


def test_somebody_signs_in_books_a_trip_and_signs_out(
    cloud: LocalCloud, orchestrated: Trip, tmp_path: Path
) -> None:
    person = Person(tmp_path, cloud.api_url)
    request = tmp_path / "trip.json"
    request.write_text(json.dumps(orchestrated.request))
    book = "start", "travel-booking", "--request", str(request), "--watch", "--json"
    assert "recourse login" in person.run(*book).stderr

    with tab() as browser, person.logging_in() as (command, page):
        shown = sign_in(browser, page, subject="ravi", groups=["customer"])
        assert "You may close this page" in shown
        assert browser.problems == []
        out, said = command.communicate(timeout=PATIENCE)
    assert command.returncode == 0, said
    assert f"signed in to {cloud.api_url} as ravi" in out
    assert page in said

    (file,) = person.files
    assert file.stat().st_mode & 0o777 == 0o600
    booked = person.run(*book)
    last = json.loads(booked.stdout.splitlines()[-1])
    assert (last["status"], last["owner"]) == ("SUCCEEDED", "ravi"), booked.stderr
    assert "operator" in person.run("redrive").stderr, "a customer is no operator"

    # Its hour is over: two commands at once, of which one refreshes.
    kept = Login(**json.loads(file.read_text()))
    file.write_text(json.dumps(kept.__dict__ | {"access": "expired", "until": 0}))
    assert json.loads(person.run("show", last["saga_id"], "--json").stdout)["owner"] == "ravi"
    again = Login(**json.loads(file.read_text()))
    assert again.refresh != kept.refresh and again.access != "expired"

    assert "signed out" in person.run("logout").stdout
    assert person.files == []
    assert "needs a bearer token (401)" in person.run("show", last["saga_id"]).stderr
    # What somebody had copied of it is worth nothing.
    file.write_text(json.dumps(again.__dict__ | {"until": 0}))
    file.chmod(0o600)
    assert "has ended" in person.run("show", last["saga_id"]).stderr


def test_a_sign_in_that_is_cancelled_is_said(cloud: LocalCloud, tmp_path: Path) -> None:
    person = Person(tmp_path, cloud.api_url)
    with tab() as browser, person.logging_in() as (command, page):
        sign_in(browser, page, subject="asha", groups=[], cancel=True)
        _, said = command.communicate(timeout=PATIENCE)
    assert command.returncode == 5
    assert "refused: access_denied: the sign-in was cancelled" in said
    assert person.files == []


@pytest.mark.parametrize("scope", ["operator everything"])
def test_a_request_that_the_issuer_refuses_is_said(
    cloud: LocalCloud, tmp_path: Path, scope: str
) -> None:
    person = Person(tmp_path, cloud.api_url)
    with tab() as browser, person.logging_in("--scope", scope) as (command, page):
        browser.open(page)
        _, said = command.communicate(timeout=PATIENCE)
    assert command.returncode == 5
    assert "refused: invalid_scope: there is no scope everything" in said
