"""The pages about uses: their files, commands and answers are what happens."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from typer.testing import CliRunner

import recourse.functions.valet
from recourse.cli import command, main, upload
from recourse.cli.api import Api
from recourse.functions import kit
from recourse.valet.keys import Actor
from tests.ground import Ground, ground
from tests.integration.calling import Caller
from tests.integration.test_api import standing
from tests.valet.conftest import BUCKET

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = [
    "start.md",
    "travel.md",
    "e-commerce.md",
    "banking.md",
    "healthcare.md",
    "in-bulk.md",
    "people-who-decide.md",
    "reverse.md",
    "timers.md",
]
BLOCK = re.compile(
    r"(?:`([\w.-]+\.(?:json|csv))`:\n\n)?^```(bash|json|csv)\n(.*?)^```$", re.DOTALL | re.MULTILINE
)
OWN = "RECOURSE_TOKEN"
"""The token that commands take from the environment."""
TOKEN = re.compile(r'export (\w+)=\$\(recourse token --subject (\S+) --scope "([^"]+)"\)')
PICKED = re.compile(r"export (\w+)=\$\((curl .+) \| jq -r '([^']+)'\)")
API = "$RECOURSE_API"
DATE = re.compile(r"export (\w+)=\$\(date -u -d tomorrow \+%Y-%m-%dT(\S+)\)")
FIRST_WORD = re.compile(r"(\w+)=\$\((.+) \| cut -d' ' -f1\)")


@pytest.fixture
def standing_api() -> Iterator[Ground]:
    with ground() as made, standing(made):
        yield made


class Shell:
    """Gives a page's commands, as who has its tokens; `said` is what the last one printed."""

    def __init__(self, made: Ground, patch: pytest.MonkeyPatch) -> None:
        self._ground = made
        self.said = ""
        self._callers: dict[str, Caller] = {}
        self._variables: dict[str, str] = {}
        transport = httpx.MockTransport(self._answer)
        patch.setattr(command, "Api", lambda url, token: Api(url, token, transport=transport))
        s3 = httpx.MockTransport(_landed)
        patch.setattr(upload, "client", lambda: httpx.Client(transport=s3))

    def _answer(self, request: httpx.Request) -> httpx.Response:
        headers = {n: v for n, v in request.headers.items() if n != "authorization"}
        path = request.url.raw_path.decode()
        if path == "/valet-keys/redeem":
            return _redeemed(json.loads(request.read())["token"])
        got = self._callers[OWN](request.method, path, request.content or None, **headers)
        self._ground.settle()
        return httpx.Response(got.status, text=got.text, headers=dict(got.headers))

    def run(self, line: str) -> None:
        """Give a command; each but a `curl` must succeed, or end with the code that it says."""
        line, _, code = line.partition(" # exit ")
        if found := FIRST_WORD.fullmatch(line):
            self.run(found[2])
            self._variables[found[1]] = self.said.split(" ")[0]
            return
        words = shlex.split(line)
        match words[0]:
            case "export":
                self._export(line)
            case "curl":
                self._curl(words[1:])
            case "recourse":
                words = [self._variables[w[1:]] if w.startswith("$") else w for w in words]
                ended = CliRunner().invoke(main.app, words[1:], catch_exceptions=False)
                assert ended.exit_code == int(code or 0), (line, ended.output)
                self.said = ended.stdout
            case _:
                raise AssertionError(f"no command of a page: {line}")

    def _export(self, line: str) -> None:
        if who := TOKEN.fullmatch(line):
            self._callers[who[1]] = Caller(who[2], who[3])
        elif picked := PICKED.fullmatch(line):
            self._curl(shlex.split(picked[2])[1:])
            found = json.loads(self.said)
            for name in re.findall(r"\w+", picked[3]):
                found = found[int(name) if name.isdigit() else name]
            self._variables[picked[1]] = found
        elif date := DATE.fullmatch(line):
            day = datetime.now(UTC) + timedelta(days=1)
            self._variables[date[1]] = f"{day:%Y-%m-%d}T{date[2]}"
        else:
            assert line == "export RECOURSE_API=http://127.0.0.1:8000", line

    def _curl(self, words: list[str]) -> None:
        options: dict[str, list[str]] = {}
        while words[0].startswith("-"):
            option = words.pop(0)
            options.setdefault(option, []).append("" if option == "-s" else words.pop(0))
        (url,) = words
        assert url.startswith(f"{API}/"), url
        headers = dict(one.split(": ", 1) for one in options["-H"])
        who = self._callers[headers.pop("Authorization").removeprefix("Bearer $")]
        (method,), (body,) = options.get("-X", ["GET"]), options.get("-d", [""])
        path = re.sub(r"\$(\w+)", lambda name: self._variables[name[1]], url.removeprefix(API))
        got = who(method, path, body.encode() or None, **headers)
        self._ground.settle()
        self.said = got.text


def _redeemed(token: str) -> httpx.Response:
    """The signed request of a key, which another function than the API's answers."""
    by = Actor("token", "192.0.2.7")
    signed = recourse.functions.valet.redeemer().redeem(token, by)
    answer = {"method": signed.method, "url": signed.url, "headers": dict(signed.headers)}
    return httpx.Response(200, json=answer)


def _landed(request: httpx.Request) -> httpx.Response:
    """What S3 does with an upload to a signed URL."""
    key = request.url.path.lstrip("/").removeprefix(f"{BUCKET}/")
    kit.valet_committer().s3.put_object(
        Bucket=BUCKET, Key=key, Body=request.read(), ChecksumAlgorithm="SHA256"
    )
    return httpx.Response(200)


def must_have(found: Any, said: Any) -> None:
    """What is found has all that is said; it may have more."""
    if isinstance(said, Mapping):
        assert isinstance(found, Mapping), (found, said)
        for name, one in said.items():
            must_have(found[name], one)
    elif isinstance(said, list):
        assert len(found) == len(said), (found, said)
        for one, other in zip(found, said, strict=True):
            must_have(one, other)
    else:
        assert found == said


@pytest.mark.parametrize("page", PAGES)
def test_a_page_does_what_it_says(
    page: str, standing_api: Ground, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "samples").symlink_to(ROOT / "samples")
    for kind, things in json.loads((ROOT / "samples" / "seed.json").read_text()).items():
        for thing, body in things.items():
            standing_api.put(kind, thing, body)
    shell = Shell(standing_api, monkeypatch)
    compared = 0
    for file, language, text in BLOCK.findall((DOCS / page).read_text()):
        if file:
            (tmp_path / file).write_text(text)
        elif language == "json":
            must_have(json.loads(shell.said), json.loads(text))
            compared += 1
        else:
            for line in text.splitlines():
                shell.run(line)
    assert compared
