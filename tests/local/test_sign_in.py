"""The local issuer's sign-in, as a client and as an attacker call it."""

from __future__ import annotations

import html
from base64 import urlsafe_b64encode
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

import httpx
import jwt
import pytest

from recourse.functions.users import CALLBACKS, GROUPS, SCOPES
from recourse.local import grants
from recourse.local.grants import GrantError, Grants
from recourse.local.issuer import CLIENT, Issuer, issuer_of
from recourse.local.ports import free_port
from recourse.local.proxy import Proxy
from recourse.problems import HEADERS
from tests.patience import PATIENCE

VERIFIER = "v" * 43
CHALLENGE = urlsafe_b64encode(sha256(VERIFIER.encode()).digest()).rstrip(b"=").decode()
ASKED = {
    "response_type": "code",
    "client_id": CLIENT,
    "redirect_uri": CALLBACKS[0],
    "state": "a-state",
    "code_challenge": CHALLENGE,
    "code_challenge_method": "S256",
}
SIGNED_IN = {"subject": "asha", "group": ["customer"], "answer": "sign-in"}


class Place:
    """The issuer of one proxy."""

    def __init__(self, issuer: Issuer, http: httpx.Client) -> None:
        self.issuer, self.http = issuer, http

    def back(self, answer: httpx.Response, to: str = CALLBACKS[0]) -> dict[str, str]:
        """What the browser is sent back with."""
        assert answer.status_code == 303, answer.text
        where = urlsplit(answer.headers["location"])
        assert f"{where.scheme}://{where.netloc}{where.path}" == to
        return {name: value for name, (value,) in parse_qs(where.query).items()}

    def sign_in(self, asked: dict[str, str] = ASKED, **said: Any) -> dict[str, str]:
        return self.back(
            self.http.post("/_issuer/authorize", params=asked, data={**SIGNED_IN, **said})
        )

    def ask(self, path: str = "token", **form: str) -> httpx.Response:
        who = {"client_id": CLIENT, "client_secret": self.issuer.client_secret}
        return self.http.post(f"/_issuer/{path}", data=who | form)

    def exchange(self, code: str, /, **other: str) -> httpx.Response:
        form = {"code": code, "redirect_uri": CALLBACKS[0], "code_verifier": VERIFIER}
        return self.ask(grant_type="authorization_code", **(form | other))

    def refresh(self, token: str) -> httpx.Response:
        return self.ask(grant_type="refresh_token", refresh_token=token)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    port = free_port(0)
    key = tmp_path_factory.mktemp("issuer") / "key.pem"
    issuer = Issuer(issuer_of(f"http://127.0.0.1:{port}"), key, own=["approver"])
    proxy = Proxy(port=port, issuer=issuer, secret="secret")
    proxy.start()
    with httpx.Client(base_url=proxy.url, timeout=PATIENCE, trust_env=False) as http:
        yield Place(issuer, http)
    proxy.stop()


def claims(place: Place, answer: httpx.Response) -> dict[str, Any]:
    assert answer.status_code == 200, answer.text
    (key,) = jwt.PyJWKSet.from_dict(place.issuer.jwks).keys
    found: dict[str, Any] = jwt.decode(
        answer.json()["access_token"], key, algorithms=["RS256"], audience="recourse"
    )
    return found


def refused(answer: httpx.Response, error: str, status: int = 400) -> None:
    assert (answer.status_code, answer.json()["error"]) == (status, error)
    assert answer.headers["cache-control"] == "no-store"


def test_the_metadata_lead_to_every_endpoint(place: Place) -> None:
    about = place.http.get("/_issuer/.well-known/openid-configuration").json()
    assert about["issuer"] == place.issuer.url
    for name in ("authorization", "token", "revocation"):
        path = urlsplit(about[f"{name}_endpoint"]).path
        assert place.http.post(path).status_code != 404
    assert about["code_challenge_methods_supported"] == ["S256"]


def test_who_signs_in_gets_the_scopes_of_their_groups(place: Place) -> None:
    came = place.sign_in(group=["reader", "documents"])
    assert (came["state"], came["iss"]) == ("a-state", place.issuer.url)
    answer = place.exchange(came["code"])
    has = claims(place, answer)
    assert (has["sub"], has["iss"]) == ("asha", place.issuer.url)
    assert has["scope"].split() == ["sagas:read", "valet:issue"]
    assert answer.headers["cache-control"] == "no-store"


@pytest.mark.parametrize("group", [[], ["Operator"], ["admin"]])
def test_who_is_in_none_of_them_gets_no_scope(place: Place, group: list[str]) -> None:
    assert claims(place, place.exchange(place.sign_in(group=group)["code"]))["scope"] == ""


def test_no_scope_is_had_by_asking_for_it(place: Place) -> None:
    asked = ASKED | {"scope": "operator sagas:read"}
    assert claims(place, place.exchange(place.sign_in(asked)["code"]))["scope"] == "sagas:read"


# The page.


def test_the_page_runs_no_script_and_is_framed_by_nobody(place: Place) -> None:
    answer = place.http.get("/_issuer/authorize", params=ASKED)
    assert answer.status_code == 200
    policy = answer.headers["content-security-policy"]
    assert policy.startswith("default-src 'none'; style-src 'sha256-")
    assert f"form-action 'self' {CALLBACKS[0]};" in policy
    assert "script" not in policy and "frame-ancestors 'none'" in policy
    assert answer.headers["x-frame-options"] == "DENY"
    assert answer.headers["x-content-type-options"] == HEADERS["x-content-type-options"]
    assert answer.headers["cache-control"] == "no-store"
    for group in GROUPS:
        assert f'value="{group}"' in answer.text


@pytest.mark.parametrize("name", ["state", "scope", "subject"])
def test_nothing_that_is_said_is_in_the_page(place: Place, name: str) -> None:
    script = "<script>alert(1)</script>"
    asked = ASKED | ({} if name == "scope" else {name: script})
    assert "alert" not in place.http.get("/_issuer/authorize", params=asked).text
    answer = place.http.post(
        "/_issuer/authorize", params=asked, data=SIGNED_IN | {"subject": f"{script}\x00"}
    )
    assert answer.status_code == 422
    assert "alert" not in html.unescape(answer.text)
    assert "The subject" in answer.text


def test_a_page_of_another_origin_can_neither_sign_in_nor_ask_for_tokens(place: Place) -> None:
    for headers in (
        {"origin": "https://evil.example"},
        {"origin": "null"},
        {"origin": CALLBACKS[0].removesuffix("/callback")},
        {
            "sec-fetch-site": "cross-site",
            "sec-fetch-mode": "navigate",
            "sec-fetch-dest": "document",
        },
    ):
        for path in ("authorize", "token", "revoke"):
            answer = place.http.post(
                f"/_issuer/{path}", params=ASKED, data=SIGNED_IN, headers=headers
            )
            assert answer.status_code == 403
    frame = {
        "sec-fetch-site": "cross-site",
        "sec-fetch-mode": "navigate",
        "sec-fetch-dest": "iframe",
    }
    assert place.http.get("/_issuer/authorize", params=ASKED, headers=frame).status_code == 403
    rebound = {"host": "evil.example"}
    assert place.http.get("/_issuer/authorize", params=ASKED, headers=rebound).status_code == 421


@pytest.mark.parametrize(
    "wrong",
    [
        {"client_id": "another"},
        {"redirect_uri": "https://evil.example/callback"},
        {"redirect_uri": CALLBACKS[0] + "/"},
        {"redirect_uri": CALLBACKS[0] + "?x=1"},
        {"redirect_uri": CALLBACKS[0].replace("127.0.0.1", "localhost")},
        {"redirect_uri": "http://127.0.0.1:1/callback"},
        {"redirect_uri": ""},
    ],
)
def test_nobody_is_sent_to_an_address_that_is_not_registered(
    place: Place, wrong: dict[str, str]
) -> None:
    for answer in (
        place.http.get("/_issuer/authorize", params=ASKED | wrong),
        place.http.post("/_issuer/authorize", params=ASKED | wrong, data=SIGNED_IN),
    ):
        refused(answer, "invalid_request")
        assert "location" not in answer.headers


@pytest.mark.parametrize(
    ("wrong", "error"),
    [
        ({"response_type": "token"}, "unsupported_response_type"),
        ({"code_challenge_method": "plain"}, "invalid_request"),
        ({"code_challenge_method": ""}, "invalid_request"),
        ({"code_challenge": ""}, "invalid_request"),
        ({"code_challenge": CHALLENGE[:-1]}, "invalid_request"),
        ({"state": ""}, "invalid_request"),
        ({"scope": "sagas:read everything"}, "invalid_scope"),
    ],
)
def test_what_is_not_granted_is_said_to_the_client(
    place: Place, wrong: dict[str, str], error: str
) -> None:
    came = place.back(place.http.get("/_issuer/authorize", params=ASKED | wrong))
    assert came["error"] == error and "code" not in came
    assert "code" not in place.sign_in(ASKED | wrong)


def test_a_parameter_that_comes_twice_or_is_huge_is_refused(place: Place) -> None:
    twice = [*ASKED.items(), ("redirect_uri", CALLBACKS[1])]
    answer = place.http.get(f"/_issuer/authorize?{urlencode(twice)}")
    refused(answer, "invalid_request")
    huge = ASKED | {"state": "x" * 5000}
    refused(place.http.get("/_issuer/authorize", params=huge), "invalid_request")
    refused(place.ask(grant_type="refresh_token", refresh_token="x" * 9000), "invalid_request", 413)
    refused(place.http.post("/_issuer/token", json={}), "invalid_request")
    answer = place.http.post(
        "/_issuer/token",
        content=b"client_id=%ff",
        headers={"content-type": "application/x-www-form-urlencoded"},
    )
    refused(answer, "invalid_request")


def test_a_sign_in_that_is_cancelled_grants_nothing(place: Place) -> None:
    for answer in ("cancel", ""):
        assert place.sign_in(answer=answer)["error"] == "access_denied"


# Tokens.


@pytest.mark.parametrize(
    "wrong",
    [
        {"code_verifier": "w" * 43},
        {"code_verifier": CHALLENGE},
        {"redirect_uri": CALLBACKS[1]},
    ],
)
def test_a_code_is_its_own_clients_alone_and_is_spent_by_a_wrong_try(
    place: Place, wrong: dict[str, str]
) -> None:
    code = place.sign_in()["code"]
    refused(place.exchange(code, **wrong), "invalid_grant")
    refused(place.exchange(code), "invalid_grant")


@pytest.mark.parametrize("name", ["code", "redirect_uri", "code_verifier"])
def test_without_one_of_its_parts_a_code_is_not_exchanged(place: Place, name: str) -> None:
    refused(place.exchange(place.sign_in()["code"], **{name: ""}), "invalid_request")


def test_a_code_that_comes_again_ends_what_it_had_granted(place: Place) -> None:
    code = place.sign_in()["code"]
    granted = place.exchange(code).json()
    refused(place.exchange(code), "invalid_grant")
    refused(place.refresh(granted["refresh_token"]), "invalid_grant")


@pytest.mark.parametrize(
    "wrong", [{"client_secret": ""}, {"client_secret": "x"}, {"client_id": "x"}]
)
def test_without_the_secret_in_the_owners_folder_nobody_gets_a_token(
    place: Place, wrong: dict[str, str]
) -> None:
    """Another user of the machine can open the page, and learns nothing by it."""
    code = place.sign_in()["code"]
    refused(place.exchange(code, **wrong), "invalid_client", 401)
    granted = place.exchange(code).json()
    form = {"grant_type": "refresh_token", "refresh_token": granted["refresh_token"]}
    refused(place.ask(**(form | wrong)), "invalid_client", 401)
    refused(place.ask("revoke", token=granted["refresh_token"], **wrong), "invalid_client", 401)
    assert claims(place, place.refresh(granted["refresh_token"]))["sub"] == "asha"


def test_a_refresh_token_is_replaced_and_the_former_one_ends_the_grant(place: Place) -> None:
    first = place.exchange(place.sign_in()["code"]).json()["refresh_token"]
    second = place.refresh(first).json()["refresh_token"]
    refused(place.refresh(first), "invalid_grant")
    refused(place.refresh(second), "invalid_grant")


def test_a_refresh_token_is_no_bearer_and_a_bearer_no_refresh_token(place: Place) -> None:
    granted = place.exchange(place.sign_in()["code"]).json()
    assert granted["refresh_token"].count(".") == 0
    refused(place.refresh(granted["access_token"]), "invalid_grant")


def test_a_revoked_grant_is_not_refreshed(place: Place) -> None:
    token = place.exchange(place.sign_in()["code"]).json()["refresh_token"]
    assert place.ask("revoke", token=token).status_code == 200
    assert place.ask("revoke", token="unknown").status_code == 200
    refused(place.refresh(token), "invalid_grant")


def test_another_way_to_a_token_there_is_not(place: Place) -> None:
    refused(place.ask(grant_type="password", username="a"), "unsupported_grant_type")
    refused(place.ask(grant_type="client_credentials"), "unsupported_grant_type")
    refused(place.ask(), "invalid_request")


def test_codes_and_grants_end_in_time_and_do_not_pile_up(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    kept = Grants(lambda subject, scope, lifetime: f"{subject} {scope}", clock=lambda: now)

    def begin() -> str:
        return kept.begin(CLIENT, "asha", "sagas:read", CALLBACKS[0], CHALLENGE)

    late, good = begin(), begin()
    answer = kept.exchange(CLIENT, good, CALLBACKS[0], VERIFIER)
    now = grants.CODE_LIFETIME
    with pytest.raises(GrantError, match="too old"):
        kept.exchange(CLIENT, late, CALLBACKS[0], VERIFIER)
    answer = kept.refresh(CLIENT, answer["refresh_token"])
    now += grants.REFRESH_LIFETIME
    with pytest.raises(GrantError, match="too old"):
        kept.refresh(CLIENT, answer["refresh_token"])
    monkeypatch.setattr(grants, "MOST", 3)
    codes = [begin() for _ in range(4)]
    with pytest.raises(GrantError, match="unknown"):
        kept.exchange(CLIENT, codes[0], CALLBACKS[0], VERIFIER)
    assert kept.exchange(CLIENT, codes[1], CALLBACKS[0], VERIFIER)["scope"] == "sagas:read"


def test_the_secret_is_made_once_and_for_its_owner_alone(tmp_path: Path) -> None:
    one, other = (Issuer("http://127.0.0.1/_issuer", tmp_path / "key.pem") for _ in range(2))
    assert one.client_secret == other.client_secret
    assert len(one.client_secret) >= 43
    assert (tmp_path / "client-secret").stat().st_mode & 0o777 == 0o600


def test_every_scope_can_be_had(place: Place) -> None:
    had = claims(place, place.exchange(place.sign_in(group=["operator"])["code"]))["scope"]
    assert set(had.split()) == {*SCOPES, "approver"}


def test_who_decides_by_a_scope_of_the_apps_own_signs_in_by_its_group(place: Place) -> None:
    about = place.http.get("/_issuer/.well-known/openid-configuration").json()
    assert about["scopes_supported"] == [*SCOPES, "approver"]
    has = claims(place, place.exchange(place.sign_in(group=["approver"])["code"]))["scope"]
    assert has.split() == ["sagas:read", "webhooks:write", "approver"]
