"""The sign-in of the console: a public client, whose user has a passcode of the owner's folder."""

from __future__ import annotations

import html
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from recourse.functions.users import CALLBACKS, GROUPS, SCOPES
from recourse.local import passcode as codes
from recourse.local.issuer import CLIENT, CONSOLE, Issuer, issuer_of
from recourse.local.passcode import ALPHABET, MOST_WRONG, WITHIN, Passcode, new_passcode
from recourse.local.ports import free_port
from recourse.local.proxy import Proxy
from tests.local.test_sign_in import ASKED, SIGNED_IN, VERIFIER, claims, refused
from tests.local.test_sign_in import Place as Issuers
from tests.patience import PATIENCE


class Place(Issuers):
    """The issuer of one proxy, as the console calls it."""

    @property
    def origin(self) -> str:
        return str(self.http.base_url).rstrip("/")

    @property
    def asked(self) -> dict[str, str]:
        return ASKED | {"client_id": CONSOLE, "redirect_uri": f"{self.origin}/"}

    def post(self, asked: dict[str, str] | None = None, /, **said: Any) -> httpx.Response:
        form = {**SIGNED_IN, "passcode": self.issuer.passcode.text, **said}
        page = {"origin": self.origin, "sec-fetch-site": "same-origin"}
        return self.http.post(
            "/_issuer/authorize", params=asked or self.asked, data=form, headers=page
        )

    def code(self, **said: Any) -> str:
        return self.back(self.post(**said), f"{self.origin}/")["code"]

    def ask(self, path: str = "token", **form: str) -> httpx.Response:
        page = {"origin": self.origin, "sec-fetch-site": "same-origin"}
        return self.http.post(f"/_issuer/{path}", data={"client_id": CONSOLE, **form}, headers=page)

    def exchange(self, code: str, /, **other: str) -> httpx.Response:
        return super().exchange(code, **({"redirect_uri": f"{self.origin}/"} | other))

    @property
    def cli(self) -> Issuers:
        """The same, as `recourse login` calls it."""
        return Issuers(self.issuer, self.http)


@pytest.fixture(scope="module")
def key(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The issuer's, which takes long to make."""
    return tmp_path_factory.mktemp("issuer") / "key.pem"


@pytest.fixture
def place(key: Path) -> Iterator[Place]:
    port = free_port(0)
    issuer = Issuer(issuer_of(f"http://127.0.0.1:{port}"), key, own=["approver"])
    proxy = Proxy(port=port, issuer=issuer, secret="secret")
    proxy.start()
    with httpx.Client(base_url=proxy.url, timeout=PATIENCE, trust_env=False) as http:
        yield Place(issuer, http)
    proxy.stop()


def test_who_has_the_passcode_signs_in_without_a_secret(place: Place) -> None:
    came = place.back(place.post(group=["reader", "approver"]), f"{place.origin}/")
    assert (came["state"], came["iss"]) == ("a-state", place.issuer.url)
    answer = place.exchange(came["code"])
    has = claims(place, answer)
    assert (has["sub"], has["iss"]) == ("asha", place.issuer.url)
    assert has["scope"].split() == ["sagas:read", "webhooks:write", "approver"]
    again = place.refresh(answer.json()["refresh_token"])
    assert claims(place, again)["sub"] == "asha"
    token = again.json()["refresh_token"]
    assert place.ask("revoke", token=token).status_code == 200
    refused(place.refresh(token), "invalid_grant")


def test_the_metadata_say_that_a_client_may_have_no_secret(place: Place) -> None:
    about = place.http.get("/_issuer/.well-known/openid-configuration").json()
    assert about["token_endpoint_auth_methods_supported"] == ["client_secret_post", "none"]


# The page.


def test_the_page_asks_for_the_passcode_so_that_a_browser_can_keep_it(place: Place) -> None:
    answer = place.http.get("/_issuer/authorize", params=place.asked)
    assert answer.status_code == 200
    inputs = re.findall(r"<input [^>]*>", answer.text)
    (passcode,) = (one for one in inputs if 'name="passcode"' in one)
    (subject,) = (one for one in inputs if 'name="subject"' in one)
    assert 'type="password"' in passcode and 'autocomplete="current-password"' in passcode
    assert 'autocomplete="username"' in subject
    assert '<form method="post" autocomplete="on">' in answer.text
    assert ".local/console-passcode" in answer.text and "recourse up" in answer.text
    assert place.issuer.passcode.text not in answer.text
    assert f"form-action 'self' {place.origin}/;" in answer.headers["content-security-policy"]
    checked = {name for name in GROUPS if f'value="{name}" checked' in answer.text}
    assert checked == {"customer", "documents", "operator"}


def test_the_page_of_the_command_asks_for_none(place: Place) -> None:
    text = place.http.get("/_issuer/authorize", params=ASKED).text
    assert "passcode" not in text and "recourse login" in text
    assert [name for name in GROUPS if f'value="{name}" checked' in text] == ["customer"]


def test_whoever_signs_in_as_the_page_proposes_may_see_all_that_the_console_shows(
    place: Place,
) -> None:
    has = claims(place, place.exchange(place.code(group=["customer", "documents", "operator"])))
    assert set(has["scope"].split()) == {*SCOPES, "approver"}


# The passcode.


@pytest.mark.parametrize("wrong", ["", "x", "0000-0000-0000", "ü", "a" * 3000])
def test_without_the_passcode_nobody_gets_a_code(place: Place, wrong: str) -> None:
    for said in ({"passcode": wrong}, {"passcode": wrong, "subject": "\x00"}):
        answer = place.post(**said)
        assert answer.status_code == 403
        assert "location" not in answer.headers
        assert "The passcode is wrong." in answer.text
        assert answer.headers["cache-control"] == "no-store"
        assert "script" not in answer.headers["content-security-policy"]


def test_without_the_field_nobody_gets_a_code(place: Place) -> None:
    answer = place.http.post("/_issuer/authorize", params=place.asked, data=SIGNED_IN)
    assert answer.status_code == 403
    # Nor by saying it where addresses are logged.
    with_it = place.asked | {"passcode": place.issuer.passcode.text}
    answer = place.http.post("/_issuer/authorize", params=with_it, data=SIGNED_IN)
    assert answer.status_code == 403


def test_the_passcode_is_typed_as_people_type(place: Place) -> None:
    text = place.issuer.passcode.text
    for said in (text.upper(), text.replace("-", ""), text.replace("-", " "), f"  {text}\t"):
        assert place.code(passcode=said)


def test_letters_that_look_like_digits_are_those_digits() -> None:
    for said in ("0110-1abc-defg", "OiLo-Iabc-defg", "olio1ABCDEFG"):
        assert Passcode("0110-1abc-defg").matches(said)
    assert not Passcode("0110-1abc-defg").matches("0110-1abc-defg0")
    assert not Passcode("0110-1abc-defg").matches("0110-1abc-def\udfff")


def test_a_wrong_subject_is_said_and_a_cancelled_sign_in_needs_no_passcode(place: Place) -> None:
    script = "<script>alert(1)</script>"
    answer = place.post(subject=f"{script}\x00")
    assert answer.status_code == 422 and "alert" not in html.unescape(answer.text)
    cancelled = place.back(place.post(answer="cancel", passcode=""), f"{place.origin}/")
    assert cancelled["error"] == "access_denied" and "code" not in cancelled


def test_who_tries_too_often_waits_and_the_right_one_waits_too(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 1000.0
    monkeypatch.setattr(place.issuer.passcode, "_clock", lambda: now)
    for number in range(MOST_WRONG):
        now += 1
        assert place.post(passcode=f"wrong-{number}").status_code == 403
    for passcode in ("wrong", place.issuer.passcode.text):
        answer = place.post(passcode=passcode)
        assert (answer.status_code, answer.headers["retry-after"]) == (429, "51")
        assert "Try again in 51 seconds" in answer.text
        assert "location" not in answer.headers
    # The command is not kept out with it, and the wait ends by itself.
    assert place.cli.exchange(place.cli.sign_in()["code"]).status_code == 200
    now = 1001 + WITHIN
    assert place.code()
    assert place.post(passcode="wrong").status_code == 403
    assert place.post().status_code == 429


def test_a_passcode_is_made_once_for_its_owner_alone_and_cannot_be_guessed(
    tmp_path: Path,
) -> None:
    one, other = (Issuer("http://127.0.0.1/_issuer", tmp_path / "key.pem") for _ in range(2))
    text = one.passcode.text
    assert text == other.passcode.text
    assert (tmp_path / "console-passcode").stat().st_mode & 0o777 == 0o600
    assert (tmp_path / "console-passcode").read_text() == text
    assert len(set(ALPHABET)) == 32 and not set("ilou") & set(ALPHABET)
    many = {new_passcode().decode() for _ in range(1000)}
    assert len(many) == 1000
    assert all(re.fullmatch(f"([{ALPHABET}]{{4}}-){{2}}[{ALPHABET}]{{4}}", one) for one in many)
    assert set("".join(many)) == {*ALPHABET, "-"}
    assert codes.GROUPS * codes.GROUP * 5 >= 50  # bits


# Where a code goes.


@pytest.mark.parametrize(
    "wrong",
    [
        "",
        "http://127.0.0.1:1/",
        "http://127.0.0.1/",
        "https://evil.example/",
        "{origin}",
        "{origin}/callback",
        "{origin}/?x=1",
        "{origin}/#x",
        "{origin}//evil.example/",
        "{origin}@evil.example/",
        "{origin}.evil.example/",
        "{other}/",
        CALLBACKS[0],
    ],
)
def test_a_code_goes_to_the_page_that_asked_alone(place: Place, wrong: str) -> None:
    other = place.origin.replace("127.0.0.1", "localhost")
    asked = place.asked | {"redirect_uri": wrong.format(origin=place.origin, other=other)}
    for answer in (place.http.get("/_issuer/authorize", params=asked), place.post(asked)):
        refused(answer, "invalid_request")
        assert "location" not in answer.headers


def test_the_command_is_not_sent_to_the_page(place: Place) -> None:
    asked = ASKED | {"redirect_uri": f"{place.origin}/"}
    refused(place.http.get("/_issuer/authorize", params=asked), "invalid_request")


def test_the_page_has_two_names_and_is_sent_back_to_the_one_by_which_it_asked(
    place: Place,
) -> None:
    origin = place.origin.replace("127.0.0.1", "localhost")
    page = {"host": origin.removeprefix("http://"), "origin": origin}
    asked = place.asked | {"redirect_uri": f"{origin}/"}
    form = SIGNED_IN | {"passcode": place.issuer.passcode.text}
    shown = place.http.get("/_issuer/authorize", params=asked, headers={"host": page["host"]})
    assert shown.status_code == 200
    answer = place.http.post("/_issuer/authorize", params=asked, data=form, headers=page)
    code = place.back(answer, f"{origin}/")["code"]
    exchange = {
        "grant_type": "authorization_code",
        "client_id": CONSOLE,
        "code": code,
        "redirect_uri": f"{origin}/",
        "code_verifier": VERIFIER,
    }
    assert place.http.post("/_issuer/token", data=exchange, headers=page).status_code == 200
    # By the other name it is not exchanged: that is another page.
    answer = place.http.post("/_issuer/authorize", params=asked, data=form, headers=page)
    refused(place.exchange(place.back(answer, f"{origin}/")["code"]), "invalid_grant")


def test_a_page_of_another_origin_gets_nothing_of_it(place: Place) -> None:
    token = place.exchange(place.code()).json()["refresh_token"]
    code = place.code()
    for page in (
        {"origin": "https://evil.example"},
        {"origin": "null"},
        {"origin": place.origin.replace("127.0.0.1", "localhost")},
        {"origin": "http://127.0.0.1:1"},
        {"sec-fetch-site": "same-site", "sec-fetch-mode": "cors"},
    ):
        exchange = {"code": code, "redirect_uri": f"{place.origin}/", "code_verifier": VERIFIER}
        for path, form in (
            ("authorize", SIGNED_IN | {"passcode": place.issuer.passcode.text}),
            ("token", exchange | {"grant_type": "authorization_code", "client_id": CONSOLE}),
            ("token", {"grant_type": "refresh_token", "refresh_token": token}),
            ("revoke", {"client_id": CONSOLE, "token": token}),
        ):
            answer = place.http.post(
                f"/_issuer/{path}", params=place.asked, data=form, headers=page
            )
            assert answer.status_code == 403
    assert place.exchange(code).status_code == 200
    assert place.refresh(token).status_code == 200


# A code and a token are of one client.


@pytest.mark.parametrize(
    "wrong",
    [
        {"code_verifier": "w" * 43},
        {"code_verifier": ASKED["code_challenge"]},
        {"redirect_uri": CALLBACKS[0]},
    ],
)
def test_a_code_that_is_tried_wrongly_is_spent(place: Place, wrong: dict[str, str]) -> None:
    code = place.code()
    refused(place.exchange(code, **wrong), "invalid_grant")
    refused(place.exchange(code), "invalid_grant")


def test_a_code_that_comes_again_ends_what_it_had_granted(place: Place) -> None:
    code = place.code()
    token = place.exchange(code).json()["refresh_token"]
    refused(place.exchange(code), "invalid_grant")
    refused(place.refresh(token), "invalid_grant")


def test_a_code_of_the_command_is_nothing_to_the_console(place: Place) -> None:
    """Else another user of the machine would need no passcode: their page asks for none."""
    code = place.cli.sign_in()["code"]
    refused(place.exchange(code, redirect_uri=CALLBACKS[0]), "invalid_grant")
    refused(place.cli.exchange(code), "invalid_grant")


def test_a_code_of_the_console_is_nothing_to_the_command(place: Place) -> None:
    code = place.code()
    refused(place.cli.exchange(code, redirect_uri=f"{place.origin}/"), "invalid_grant")
    refused(place.exchange(code), "invalid_grant")


def test_a_refresh_token_is_its_own_clients_alone(place: Place) -> None:
    ours = place.exchange(place.code()).json()["refresh_token"]
    theirs = place.cli.exchange(place.cli.sign_in()["code"]).json()["refresh_token"]
    refused(place.refresh(theirs), "invalid_grant")
    refused(place.cli.refresh(ours), "invalid_grant")
    assert place.ask("revoke", token=theirs).status_code == 200
    assert place.cli.ask("revoke", token=ours).status_code == 200
    assert place.refresh(ours).status_code == 200
    assert place.cli.refresh(theirs).status_code == 200


@pytest.mark.parametrize("secret", ["x", "the command's"])
def test_the_console_has_no_secret_to_give(place: Place, secret: str) -> None:
    code = place.code()
    said = place.issuer.client_secret if secret == "the command's" else secret
    refused(place.exchange(code, client_secret=said), "invalid_client", 401)
    assert place.exchange(code).status_code == 200


def test_the_command_without_its_secret_is_not_the_console(place: Place) -> None:
    code = place.cli.sign_in()["code"]
    for client in (CLIENT, "", "another"):
        answer = place.exchange(code, client_id=client, redirect_uri=CALLBACKS[0])
        refused(answer, "invalid_client", 401)


def test_what_is_said_in_an_address_is_not_heard(place: Place) -> None:
    code = place.code()
    form = {"grant_type": "authorization_code", "code": code, "client_id": CONSOLE}
    form |= {"redirect_uri": f"{place.origin}/", "code_verifier": VERIFIER}
    kind = {"content-type": "application/x-www-form-urlencoded"}
    answer = place.http.post("/_issuer/token", params=form, headers=kind)
    refused(answer, "invalid_client", 401)
    assert not place.http.get("/_issuer/token", params=form).is_success
    token = place.exchange(code).json()["refresh_token"]
    assert not place.http.get("/_issuer/revoke", params={"token": token}).is_success
    assert place.refresh(token).status_code == 200
