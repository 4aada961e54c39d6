"""What the pages' test adds to a new app besides what the pages say: a saga of their steps."""

from __future__ import annotations

import json

LOUNGE = '''
"""A place in a lounge, and a mail about it."""

from recourse import Saga, Step, request_model
from services import lounges, mails


@request_model
class Places:
    """Places in a lounge."""

    id: str
    places: int


@request_model
class Guest:
    """Who comes."""

    email: str


@request_model
class VisitRequest:
    """A visit."""

    visit_id: str
    lounge: Places
    traveller: Guest


LOUNGE = Saga(
    "lounge",
    request=VisitRequest,
    business_key="visit_id",
    steps=[
        Step("lounge", lounges.hold, undo=lounges.release, confirm=lounges.book, takes=["lounge"]),
        Step("bill", lounges.bill, after=["lounge"], pivot=True),
        Step("mail", mails.send, takes=["traveller"]),
    ],
)
'''
MAILS = '''
"""A provider of mails, which sends one for each key."""

import http.server
import threading

SENT = {}


class Mails(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        SENT[self.headers["Idempotency-Key"]] = self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(201)
        self.end_headers()

    def log_message(self, format, *args):
        pass


SERVER = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Mails)
threading.Thread(target=SERVER.serve_forever, daemon=True).start()
PROVIDER = f"127.0.0.1:{SERVER.server_port}"
'''
VISIT = {
    "visit_id": "v-1",
    "lounge": {"id": "del-t3", "places": 2},
    "traveller": {"email": "asha@mail.test"},
}
FILES = {
    "statemachines/lounge.py": LOUNGE,
    "tests/mails.py": MAILS,
    "samples/lounge.json": json.dumps(VISIT),
}
LISTED = ("from statemachines.lounge import LOUNGE", "    LOUNGE,")
PROVIDED = (
    '    ground.add("seats", {"pk": workshop_key("pottery"), "free": SEATS})',
    """
    import os

    from tests.mails import PROVIDER

    os.environ["MAIL_PROVIDER"] = PROVIDER
""",
)
"""What the stock gets, and after which line."""
