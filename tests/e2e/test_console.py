"""The console's way to S3: a page at the API's own address uploads and downloads by itself."""

from __future__ import annotations

import hashlib
import json
import uuid
from typing import Any

import pytest

from recourse.cli.api import Api, ApiError
from recourse.local.cloud import LocalCloud
from tests.browser import Attempt, Tab, page, tab
from tests.patience import until

PDF = b"%PDF-1.7\n1 0 obj\n<<>>\nendobj\ntrailer\n<<>>\n%%EOF\n"
PUT = """
fetch("/api/valet-keys/redeem", {{
  method: "POST", headers: {{ "content-type": "application/json" }}, body: {token},
}}).then((answer) => answer.json()).then(({{ url, method, headers }}) => {{
  delete headers["content-length"];  // which the browser says itself
  return fetch(url, {{ method, headers, body: {body} }});
}}).then(async (answer) => {{
  window.told = [answer.status, answer.headers.get("etag"), await answer.text()];
}}).catch((error) => {{ window.told = [String(error)]; }});
"""


def issued(api: Api, name: str, operation: str) -> dict[str, Any]:
    asked: dict[str, Any] = {"operation": operation, "object": name}
    if operation == "upload":
        asked["upload"] = {
            "content_type": "application/pdf",
            "content_length": len(PDF),
            "sha256": hashlib.sha256(PDF).hexdigest(),
        }
    key: dict[str, Any] = api.call("POST", "/valet-keys", json=asked).json()
    return key


def used(browser: Tab, key: dict[str, Any], body: bytes | None = None) -> list[Any]:
    """What came of a key that the page has used."""
    token = json.dumps(json.dumps({"token": key["token"]}))
    browser.run("window.told = null")
    browser.run(PUT.format(token=token, body=json.dumps(body.decode() if body else None)))
    found: list[Any] = until(lambda: browser.run("window.told"), "the page has used the key")
    return found


@pytest.mark.parametrize("name", ["127.0.0.1", "localhost"])
def test_a_page_at_the_apis_address_uploads_and_downloads_by_itself(
    cloud: LocalCloud, api: Api, name: str
) -> None:
    document = f"e2e/{uuid.uuid4().hex}.pdf"
    up = issued(api, document, "upload")
    with tab() as browser:
        browser.ignore_policy()
        browser.open(cloud.api_url.replace("127.0.0.1", name) + "/")
        until(lambda: browser.run("document.readyState == 'complete'"), "the page")
        assert browser.run("location.hostname") == name
        status, etag, _ = used(browser, up, PDF)
        assert status == 200 and etag, "an upload in parts reads it"
        api.call("POST", f"/valet-keys/{up['key_id']}/complete")
        assert used(browser, issued(api, document, "download"))[::2] == [200, PDF.decode()]


def test_a_page_of_another_origin_uploads_nothing_whatever_it_knows(
    cloud: LocalCloud, api: Api
) -> None:
    key = issued(api, f"e2e/{uuid.uuid4().hex}.pdf", "upload")
    redeemed = api.call("POST", "/valet-keys/redeem", json={"token": key["token"]}).json()
    headers = {k: v for k, v in redeemed["headers"].items() if k != "content-length"}
    how = {"method": redeemed["method"], "headers": headers, "body": PDF.decode()}
    with page() as visit:
        assert visit([Attempt("fetch", redeemed["url"], how)]) == ["failed"]
    with pytest.raises(ApiError) as refused:
        api.call("POST", f"/valet-keys/{key['key_id']}/complete")
    assert refused.value.kind == "nothing-uploaded"
