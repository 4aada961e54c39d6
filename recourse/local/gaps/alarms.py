"""ministack judges alarms only when somebody puts a metric, whatever the metric's dimensions.

And it keeps no metrics of queues, streams, runs and APIs, of functions only those that the API
invoked: nothing that goes wrong ever raises an alarm. On AWS each service publishes what it counts,
and every alarm is judged by the metric of its own dimensions, by missing data too.

What happens (errors, 5xx, runs that end) is kept as a metric when it happens; what is there (ages,
numbers of messages) is read when an alarm is judged, so it counts for that moment and not for a
whole period.
"""

import threading
import time
from collections.abc import Mapping
from typing import Any

from ministack.core.responses import request_scope
from ministack.services import apigateway, cloudwatch, dynamodb, lambda_svc, sqs, stepfunctions

LOOK = 0.5
"""Seconds between two looks at every alarm."""
OF_RUNS = {
    "ABORTED": "ExecutionsAborted",
    "FAILED": "ExecutionsFailed",
    "TIMED_OUT": "ExecutionsTimedOut",
}

Alarm = dict[str, Any]
Dimensions = dict[str, str]
record = cloudwatch.record_metric


def _queue_number(name: str, of: Dimensions, now: float) -> float | None:
    queue = sqs._queues.get(sqs._queue_url(of.get("QueueName", "")))
    messages = list(queue["messages"]) if queue else []
    if name == "ApproximateNumberOfMessagesVisible":
        return float(sum(one["visible_at"] <= now for one in messages)) if queue else None
    if name == "ApproximateAgeOfOldestMessage" and messages:
        return now - min(float(one["sent_at"]) for one in messages)
    return None


def _iterator_age(of: Dimensions, now: float) -> float | None:
    """Milliseconds since the oldest record that a function has still to handle."""
    ages = []
    for mapping in list(lambda_svc._esms.values()):
        stream, function = mapping.get("EventSourceArn", ""), mapping["FunctionName"]
        if ":dynamodb:" in stream and function.split(":")[-1] == of.get("FunctionName"):
            position = lambda_svc._dynamodb_stream_positions.get(mapping["UUID"], 0)
            unread = dynamodb.stream_records_since(stream.split("/")[1], position, 1)
            since = [one["dynamodb"]["ApproximateCreationDateTime"] for one in unread]
            ages += [1000 * (now - float(one)) for one in since]
    return max(ages, default=None)


def _now(alarm: Alarm, of: Dimensions, now: float) -> float | None:
    """What is there now, of a metric that ministack does not keep; None of any other."""
    name: str = alarm["MetricName"]
    if alarm["Namespace"] == "AWS/SQS":
        return _queue_number(name, of, now)
    if (alarm["Namespace"], name) == ("AWS/Lambda", "IteratorAge"):
        return _iterator_age(of, now)
    return None


def _is_beyond(alarm: Alarm) -> tuple[bool | None, str]:
    """Whether an alarm's metric is beyond its threshold, and why; None for missing data."""
    now = time.time()
    of = {one["Name"]: one["Value"] for one in alarm["Dimensions"]}
    key = (alarm["Namespace"], alarm["MetricName"], cloudwatch._dims_key(of))
    since = now - alarm["Period"] * alarm["EvaluationPeriods"]
    points = [one for one in list(cloudwatch._metrics.get(key, ())) if one["Timestamp"] >= since]
    value = _now(alarm, of, now)
    if value is not None:
        points.append({"Value": value})
    if not points:
        return None, "no data"
    name = alarm.get("ExtendedStatistic") or alarm.get("Statistic") or "Average"
    figure = cloudwatch._stat_value(cloudwatch._calc_stats(points), name, points)
    threshold, comparison = alarm["Threshold"], alarm["ComparisonOperator"]
    beyond = figure > threshold if "Greater" in comparison else figure < threshold
    if "OrEqual" in comparison:
        beyond = beyond or figure == threshold
    return beyond, f"Threshold Crossed: {name} {figure:g} {comparison} {threshold:g}"


def judge(alarm: Alarm) -> None:
    """Judge an alarm by its own metric, and do what a change of its state asks for."""
    if not alarm.get("Namespace") or not alarm.get("MetricName"):
        return
    beyond, why = _is_beyond(alarm)
    if beyond is None:
        by_missing = {"breaching": "ALARM", "notBreaching": "OK", "missing": "INSUFFICIENT_DATA"}
        state = by_missing.get(alarm["TreatMissingData"], alarm["StateValue"])
    else:
        state = "ALARM" if beyond else "OK"
    old = alarm["StateValue"]
    if state != old:
        alarm |= {
            "StateValue": state,
            "StateReason": why,
            "StateUpdatedTimestamp": int(time.time()),
        }
        cloudwatch._record_history(alarm["AlarmName"], old, state, why)
        cloudwatch._dispatch_alarm_actions(alarm, old, state, why)
        cloudwatch._evaluate_parent_alarms(alarm)


def _watch() -> None:
    while True:
        time.sleep(LOOK)
        for account, region in {key[:2] for key in list(cloudwatch._alarms._data)}:
            with request_scope(account, region):
                cloudwatch._evaluate_all_alarms()


def _record_of_functions() -> None:
    """Count the errors of every invocation, however it came about."""
    dispatch, emit = lambda_svc._execute_function_dispatch, lambda_svc._emit_lambda_metrics

    def dispatch_and_record(func: Any, config: Any, *args: Any, **named: Any) -> Any:
        result = dispatch(func, config, *args, **named)
        if result.get("error"):
            of = {"FunctionName": config["FunctionName"]}
            record("AWS/Lambda", "Errors", 1, "Count", of)
        return result

    def emit_once(function_name: str, duration_ms: float, error: bool, throttle: bool) -> None:
        # Of a call by the API errors are recorded above, and throttles without a duration before.
        is_first = throttle and duration_ms == 0
        emit(function_name, duration_ms=duration_ms, error=False, throttle=is_first)

    lambda_svc._execute_function_dispatch = dispatch_and_record
    lambda_svc._emit_lambda_metrics = emit_once


def _record_of_runs() -> None:
    tell = stepfunctions._emit_execution_status_event

    def record_and_tell(execution: Mapping[str, Any]) -> None:
        if name := OF_RUNS.get(execution["status"]):
            of = {"StateMachineArn": execution["stateMachineArn"]}
            record("AWS/States", name, 1, "Count", of)
        tell(execution)

    stepfunctions._emit_execution_status_event = record_and_tell


def _record_of_apis() -> None:
    answer, answer_socket = apigateway._handle_execute_in_scope, apigateway._invoke_ws_lambda

    async def answer_and_record(api_id: str, *args: Any, **named: Any) -> Any:
        response = await answer(api_id, *args, **named)
        if response[0] >= 500:
            record("AWS/ApiGateway", "5xx", 1, "Count", {"ApiId": api_id})
        return response

    async def answer_socket_and_record(
        api_id: str, account: str, region: str, route: Any, stage: str, *args: Any, **named: Any
    ) -> Any:
        response = await answer_socket(api_id, account, region, route, stage, *args, **named)
        if int((response or {}).get("statusCode") or 200) >= 400:
            of = {"ApiId": api_id, "Stage": stage}
            with request_scope(account, region):
                record("AWS/ApiGateway", "IntegrationError", 1, "Count", of)
        return response

    apigateway._handle_execute_in_scope = answer_and_record
    apigateway._invoke_ws_lambda = answer_socket_and_record


def close() -> None:
    """Judge every alarm twice a second, by what its own metric counts."""
    cloudwatch._evaluate_alarm = judge
    _record_of_functions()
    _record_of_runs()
    _record_of_apis()
    threading.Thread(target=_watch, daemon=True, name="alarms").start()
