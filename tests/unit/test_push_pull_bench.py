"""The benchmark of push against pull counts right, and draws what it has counted."""

from __future__ import annotations

import json
import math
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from xml.etree import ElementTree

import httpx
import pytest

from bench.push_pull import load, plots, report, template
from bench.push_pull.measure import QUICK, Results, as_json, from_json
from bench.push_pull.stats import Latencies, percentile
from bench.push_pull.tables import WORKER, Report
from bench.push_pull.wire import CountingProxy
from recourse.cdk.prices import MONTH_HOURS, cost
from tests.patience import PATIENCE


def test_a_percentile_is_a_sample_that_so_many_are_not_above() -> None:
    samples = [one / 1000 for one in range(1, 101)]
    assert percentile(samples, 50) == 0.050
    assert percentile(samples, 99) == 0.099
    assert percentile(samples, 99.9) == 0.100


def test_a_percentile_of_too_few_samples_is_not_told() -> None:
    few = Latencies(tuple(0.001 for _ in range(99)))
    assert few.said(50) == "1.0"
    assert few.said(99) == "n < 100"
    assert few.said(99.9) == "n < 1000"


def test_what_is_lost_is_beyond_every_percentile() -> None:
    some = Latencies((*(0.1 for _ in range(150)), math.inf, math.inf))
    assert (some.lost, some.said(50), some.said(99)) == (2, "100", "lost")


def test_the_same_seed_sends_at_the_same_moments_and_as_many_as_asked() -> None:
    assert load.poisson(20, 2, 7) == load.poisson(20, 2, 7) != load.poisson(20, 2, 8)
    moments = load.poisson(20, 2, 7)
    assert len(moments) == 40 and moments == sorted(moments) and 0 <= moments[0] <= moments[-1] < 2


def test_events_that_are_late_keep_the_moment_at_which_they_were_meant() -> None:
    sent: list[tuple[int, list[int]]] = []
    slow = threading.Event()

    def append(lane: int, ready: list[load.Due]) -> None:
        sent.append((lane, [one.number for one in ready]))
        if len(sent) == 1:
            slow.wait(0.05)  # the first call is slow: what is due meanwhile is not put off

    begin = time.time_ns()
    due = load.send([0.0, 0.001, 0.002, 0.003], 1, append, begin=begin)
    assert [one.at - begin for one in due] == [0, 1_000_000, 2_000_000, 3_000_000]
    assert [number for _, numbers in sent for number in numbers] == [0, 1, 2, 3]
    assert len(sent) <= 2


def test_lanes_are_sent_independently_and_in_order() -> None:
    sent: dict[int, list[int]] = {0: [], 1: []}
    both = threading.Barrier(2, timeout=PATIENCE)

    def append(lane: int, ready: list[load.Due]) -> None:
        if not sent[lane]:
            both.wait()  # neither lane waits for the other's call to end
        sent[lane] += [one.number for one in ready]

    load.send([0.0] * 6, 2, append)
    assert sent == {0: [0, 2, 4], 1: [1, 3, 5]}


def test_a_lane_that_fails_says_so() -> None:
    def append(lane: int, ready: list[load.Due]) -> None:
        raise ConnectionError("no table")

    with pytest.raises(ConnectionError, match="no table"):
        load.send([0.0], 1, append)


def test_the_way_in_between_counts_bytes_and_requests_and_can_be_cut() -> None:
    class Answer(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            self.send_response(200)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Answer)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        with (
            CountingProxy("127.0.0.1", server.server_port) as way,
            httpx.Client(base_url=way.url, trust_env=False) as http,
        ):
            for _ in range(3):
                assert http.post("/x", content=b"a" * 1000).text == "a" * 1000
            counted = way.traffic
            way.cut()
            with pytest.raises(httpx.TransportError):
                http.post("/x", content=b"a")
            way.mend()
            assert http.post("/x", content=b"a").text == "a"
    finally:
        server.shutdown()
        server.server_close()
    assert (counted.requests, counted.connections) == (3, 1)
    assert 3000 < counted.sent < 4500 and 3000 < counted.received < 4500


def test_a_path_comes_to_the_resources_rights_and_settings_of_its_parts(tmp_path: Path) -> None:
    def at(path: str, kind: str, **properties: object) -> dict[str, object]:
        return {"Type": kind, "Properties": properties, "Metadata": {"aws:cdk:path": path}}

    statement = {"Effect": "Allow", "Action": ["sqs:A", "sqs:B"], "Resource": ["one", "two"]}
    resources = {
        "F": at("S/Push/Resource", "AWS::Lambda::Function", Timeout=5, Code={"S3Key": "x"}),
        "P": at("S/PushRole/P", "AWS::IAM::Policy", PolicyDocument={"Statement": [statement]}),
        "Q": at("S/Pull/Queue", "AWS::SQS::Queue", A=[1, 2], B={"Ref": "F"}),
    }
    file = tmp_path / "Recourse-dev-Probe.template.json"
    file.write_text(json.dumps({"Resources": resources}))
    counted = template.complexity(tmp_path, [template.Part("Probe", "Push")])
    assert counted == template.Complexity(resources=2, rights=4, settings=1)
    assert template.complexity(tmp_path, [template.Part("Probe", "Pull")]).settings == 3
    with pytest.raises(template.UnknownPartError, match="Elsewhere"):
        template.complexity(tmp_path, [template.Part("Probe", "Elsewhere")])


def test_requests_time_and_workers_cost_their_list_price() -> None:
    assert cost({"SNS publishes": 1e6, "Lambda requests": 2e6}) == pytest.approx(0.90)
    assert cost({"Lambda GB-seconds": 1e6}) == pytest.approx(13.3334)
    month = {what: count * MONTH_HOURS for what, count in WORKER.items()}
    # With the public address by which it reaches AWS, which the page left out before.
    assert cost(month) == pytest.approx(7.21 + 3.65, abs=0.01)


def test_a_report_replaces_what_stands_between_the_markers_and_nothing_else(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(f"above\n\n{report.BEGIN}\nold\n{report.END}\n\nbelow\n")
    report.put(page, report.table(["a", "b"], [[1, "x|y"]]))
    text = page.read_text()
    assert text.startswith("above\n\n") and text.endswith("\n\nbelow\n")
    assert "old" not in text and "| 1 | x\\|y |" in text
    report.put(page, "again")
    assert page.read_text().count(report.BEGIN) == 1


@pytest.mark.parametrize("text", ["nothing", report.BEGIN, f"{report.END} {report.BEGIN}"])
def test_a_page_without_its_markers_is_left_alone(tmp_path: Path, text: str) -> None:
    page = tmp_path / "page.md"
    page.write_text(text)
    with pytest.raises(report.UnmarkedPageError):
        report.put(page, "new")
    assert page.read_text() == text


def test_plots_are_well_formed_and_what_is_beyond_the_scale_says_so() -> None:
    rows = [("a <b>", "push", 10.0, 30.0), ("c", "pull", 50.0, math.inf)]
    drawn = plots.ranges("Latency", "ms", rows, low=1, high=10_000)
    said = [one.text for one in ElementTree.fromstring(drawn).iter() if one.text]
    assert "a <b>" in said and "beyond" in said and "1000 ms" in said
    ElementTree.fromstring(plots.bars("Requests", "an hour", [("a", "push", 0), ("b", "pull", 9)]))


def test_results_come_back_from_their_text_as_they_were() -> None:
    made = Results(highest={1: 16.0, 4: 32.0}, latencies={"idle": [0.1, math.inf]})
    assert from_json(as_json({"sse": made})) == {"sse": made}


def test_what_the_notes_say_is_judged_by_the_figures() -> None:
    verdicts = judged(push_ms=20, poll_ms=500, wait_ms=600, lost_in_a_burst=0)
    assert (verdicts["latency"], verdicts["scalability"]) == ("confirmed", "refuted")
    verdicts = judged(push_ms=100, poll_ms=500, wait_ms=60, lost_in_a_burst=1)
    assert (verdicts["latency"], verdicts["scalability"]) == ("conditional", "confirmed")
    assert judged(push_ms=900, poll_ms=500, wait_ms=60, lost_in_a_burst=0)["latency"] == "refuted"


def judged(*, push_ms: int, poll_ms: int, wait_ms: int, lost_in_a_burst: int) -> dict[str, str]:
    """The verdict on each of the notes' rows."""

    def results(milliseconds: int, lost: int = 0) -> Results:
        some = [milliseconds / 1000] * 20
        burst = [*some, *[math.inf] * lost]
        loads = {"idle": some, "50 %": some, "90 %": some, "burst": burst}
        return Results(highest={1: 16.0}, latencies=loads)

    found = {
        "sns-lambda": results(push_ms, lost_in_a_burst),
        "worker": results(wait_ms),
        "poll": results(poll_ms),
    }
    text = Report(found, QUICK, "here", "today", 60, None).text
    lines = [line.split(" | ") for line in text.splitlines() if line.startswith("| ")]
    return {line[0].removeprefix("| "): line[2] for line in lines if len(line) == 4}
