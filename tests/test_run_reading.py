"""Is a cluster's run read out of its trace as it was: who sent what to whom, what changed, and how it is told?"""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from typing import Any

import pytest
from hwmark.traces.changes import Json
from hwmark.traces.errors import BadInputError
from hwmark.traces.run import Event, Fate, Flight, Run
from hwmark.traces.run_changes import Appended, Item, LogRecord, Note, Truncated, Views
from hwmark.traces.run_words import fault_text, message_text, outcomes, plain_text
from hwmark.traces.trace import Step
from run_examples import RunWriter, lost_record, message, partition, replica


@cache
def lost() -> Run:
    return Run.of(lost_record())


def flights(run: Run, kind: str) -> list[Flight]:
    return [flight for flight in run.flights if flight.name == kind]


def step_of(run: Run, action: str) -> Event:
    return next(event for event in run.events if event.action == action)


# ------------------------------------------------------------------------------------------- reading a run


def test_a_message_is_followed_from_the_step_that_sent_it_to_the_one_that_ended_it() -> None:
    sent, copied = flights(lost(), "Produce")
    assert (sent.sent, sent.ended, sent.fate, sent.is_copy) == (26, 28, Fate.DELIVERED, False)
    assert (copied.sent, copied.ended, copied.fate, copied.is_copy) == (27, 33, Fate.LOST, True)
    assert step_of(lost(), "crash").lost == (copied,)
    assert lost().events[27].received is sent


def test_what_is_never_delivered_is_still_under_way() -> None:
    fetches = flights(lost(), "Fetch")
    assert [flight.fate for flight in fetches].count(Fate.UNDER_WAY) == 0
    shorter = lost_record()
    [*_, last] = Run.of(replace(shorter, steps=shorter.steps[:26])).flights
    assert (last.name, last.fate, last.ended) == ("Produce", Fate.UNDER_WAY, None)


def test_a_response_that_many_requests_have_goes_by_its_requests_name() -> None:
    assert [flight.text for flight in flights(lost(), "CreateResponse")] == ["NONE", "NODE_EXISTS"]


def test_a_message_to_a_machine_that_is_down_is_lost_when_it_is_delivered() -> None:
    writer = RunWriter.of("broker-1", "producer-1")
    writer.step("Crash", 1, machine="broker-1", keeps_unflushed=True, views={"broker-1": {"state": "down"}})
    [id] = writer.step(
        "Invoke",
        2,
        machine="producer-1",
        number=1,
        operation="x",
        sent=[message("producer-1", "broker-1", "Produce", "x-0")],
    )
    writer.step("Deliver", 3, message=id)
    run = Run.of(writer.trace())
    assert run.flights[0].fate is Fate.LOST
    assert run.events[-1].received is None
    assert run.events[-1].lost == run.flights


def test_whoever_asks_a_machine_without_an_application_gets_a_lane() -> None:
    writer = RunWriter.of("broker-1")
    [id] = writer.step(
        "Invoke",
        1,
        machine="broker-1",
        number=1,
        operation="x",
        sent=[message("admin", "broker-1", "ElectLeaders", "x-0")],
    )
    [id] = writer.step("Deliver", 2, message=id, sent=[message("broker-1", "admin", "", "NONE", answer=True)])
    writer.step("Deliver", 3, message=id, returned=[{"machine": "admin", "number": 1, "outcome": "fine"}])
    run = Run.of(writer.trace())
    assert run.machines == ("broker-1", "admin")
    assert [event.machines for event in run.events] == [("admin",), ("broker-1",), ("admin",)]


def test_lanes_are_in_the_order_of_what_machines_are() -> None:
    writer = RunWriter.of("consumer-1", "broker-2", "zookeeper", "producer-1", "broker-1")
    assert Run.of(writer.trace()).machines == ("zookeeper", "broker-2", "broker-1", "producer-1", "consumer-1")


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"network": {"1": {"from": "a", "to": "b", "kind": "Fetch"}}}, "message 1: expected a text as 'text'"),
        ({"network": {"1": 7}}, "message 1: expected an object, not 7"),
        ({"network": []}, "network: expected an object, not []"),
        ({"machines": 1}, "machines: expected an object, not 1"),
        ({"machines": {"broker-1": []}}, "broker-1: expected an object, not []"),
        ({"machines": {"broker-1": {"partitions": {"x-0": 3}}}}, "broker-1: x-0: expected an object, not 3"),
        (
            {"machines": {"broker-1": {"partitions": {"x-0": {"log": [[0, 1]]}}}}},
            "log: expected rows of offset, leader epoch and value, not [0, 1]",
        ),
        ({"returned": {}}, "returned: expected a list"),
        ({"returned": [1]}, "returned: expected objects with machine, number and outcome, not 1"),
    ],
)
def test_what_is_no_run_is_refused_with_its_line(changes: dict[str, Json], reason: str) -> None:
    trace = RunWriter.of("broker-1").trace()
    steps = (
        Step("Tick", {"machine": "broker-1", "at": 1}, {}),
        Step("Tick", {"machine": "broker-1", "at": 2}, changes),
    )
    with pytest.raises(BadInputError) as error:
        Run.of(replace(trace, steps=steps), "run.jsonl")
    assert str(error.value) == f"run.jsonl:3: no run of a cluster: {reason}"


# --------------------------------------------------------------------------------------- what has changed


def changed(before: dict[str, Any], after: dict[str, Any]) -> tuple[Item, ...]:
    """What is told of a machine that was like this and is like that."""
    views = Views({})
    views.changes({"broker-1": before})
    return views.changes({"broker-1": after}).get("broker-1", ())


ONE, TWO = [0, 0, 10], [1, 1, 11]
HEADING = Note("x-0", is_heading=True)


def progress(text: str) -> Note:
    return Note(text, is_progress=True)


@pytest.mark.parametrize(
    ("before", "after", "items"),
    [
        (partition(), partition(), ()),
        (
            partition(),
            partition(role="leader", leader_epoch=3, isr=[2, 1]),
            (HEADING, Note("LEADER, epoch 3", is_strong=True), Note("ISR {2,1}")),
        ),
        (partition(role="leader", leader_epoch=3), partition(leader_epoch=4), (HEADING, Note("follower, epoch 4"))),
        (partition(leader_epoch=4, isr=[1]), partition(role="offline", isr=[1]), (HEADING, Note("offline"))),
        (
            partition(log=[ONE]),
            partition(log=[ONE, TWO], high_watermark=1),
            (HEADING, Appended((LogRecord(1, 1, "11"),)), progress("end 1→2, HW 0→1")),
        ),
        (
            partition(log=[ONE, TWO]),
            partition(log=[ONE]),
            (HEADING, Truncated((LogRecord(1, 1, "11"),)), progress("end 2→1")),
        ),
        (
            partition(log=[ONE]),
            partition(log=[[0, 1, 10]]),
            (HEADING, Truncated((LogRecord(0, 0, "10"),)), Appended((LogRecord(0, 1, "10"),))),
        ),
        (
            partition(log=[ONE, TWO]),
            {"partitions": {"x-0": replica(log=[TWO], log_start_offset=1) | {"log_end_offset": 2}}},
            (HEADING, progress("start 0→1")),
        ),
        (
            partition(high_watermark=1),
            {"partitions": {"x-0": replica(high_watermark=3) | {"last_stable_offset": 2}}},
            (HEADING, progress("HW 1→3, LSO 1→2")),
        ),
        ({"controller": False}, {"controller": True}, (Note("becomes the CONTROLLER", is_strong=True),)),
        ({"controller": True}, {"controller": False}, (Note("no longer controller", is_strong=True),)),
        ({"transaction": "READY"}, {"transaction": "IN_TRANSACTION"}, (Note("transaction: READY → IN_TRANSACTION"),)),
        ({"member": ""}, {"member": "m-1"}, (Note("member: m-1"),)),
        ({"positions": {"x-0": {"state": "FETCHING", "offset": 1}}}, {"positions": {}}, (Note("positions x-0: gone"),)),
        ({"nodes": {}}, {"nodes": {"/brokers/topics/x/partitions/0/state": "isr"}}, (Note("state of x-0: isr"),)),
        ({"in_flight": 1, "clock": 0}, {"in_flight": 2, "clock": 5}, ()),
    ],
)  # fmt: skip
def test_only_what_changed_is_told(before: dict[str, Any], after: dict[str, Any], items: tuple[Item, ...]) -> None:
    assert changed(before, after) == items


def test_of_a_machine_that_is_down_only_its_disk_is_told_and_of_one_that_is_back_what_is_new() -> None:
    views = Views({})
    views.changes({"broker-1": partition(role="leader", leader_epoch=1, isr=[1], log=[ONE, TWO], high_watermark=1)})
    down = views.changes({"broker-1": {"state": "down"} | partition(role="offline", log=[ONE], high_watermark=1)})
    assert down == {"broker-1": (HEADING, Truncated((LogRecord(1, 1, "11"),)), progress("end 2→1"))}
    assert views.changes({"broker-1": {"state": "up", "partitions": {}}}) == {}
    back = views.changes({"broker-1": {"state": "up"} | partition(leader_epoch=2, log=[ONE], high_watermark=1)})
    assert back == {"broker-1": (HEADING, Note("follower, epoch 2"))}


# ------------------------------------------------------------------------------------------------- words


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (["x", 0], "x-0"),
        ([["x", 0], 7], "[x-0, 7]"),
        ({"is": "producer.Send", "topic": "x", "key": None}, "Send(topic=x, key=none)"),
        ({"is": "errors.Error", "name": "NOT_COORDINATOR"}, "NOT_COORDINATOR"),
        ({"is": "list", "items": [1, "a"]}, "[1, a]"),
        (True, "true"),
    ],
)
def test_values_in_words(value: Json, text: str) -> None:
    assert plain_text(value) == text


@pytest.mark.parametrize(
    ("outcome", "text", "is_failure"),
    [
        ({"is": "requests.Response", "value": [["x", 0], 3]}, "call 4: ok [x-0, 3]", False),
        ({"is": "requests.Response"}, "call 4: ok", False),
        (
            {"is": "requests.Response", "error": {"is": "errors.Error", "name": "REQUEST_TIMED_OUT"}, "value": True},
            "call 4: REQUEST_TIMED_OUT true",
            True,
        ),
        (
            {
                "is": "requests.Response",
                "value": {
                    "is": "consumer.PollResult",
                    "records": [[["x", 0], 3, None, 17], [["x", 1], 0, None, 5], [["x", 0], 4, None, 18]],
                    "rebalances": [["assigned", [["x", 0], ["x", 1]]]],
                },
            },
            "call 4: ok assigned [x-0, x-1], x-0: 17@3 18@4, x-1: 5@0",
            False,
        ),
        ({"is": "consumer.PollResult", "records": [], "rebalances": []}, "call 4: nothing", False),
    ],
)
def test_outcomes_in_words(outcome: Json, text: str, is_failure: bool) -> None:
    [told] = outcomes([{"machine": "producer-1", "number": 4, "outcome": outcome}])
    assert (told.machine, told.text, told.is_failure) == ("producer-1", text, is_failure)


@pytest.mark.parametrize(
    ("text", "shorter"),
    [
        ("x-0 fetch_offset=3 replica_id=2 log_start_offset=0 max_wait=500", "x-0 fetch_offset=3"),
        ("batches=[] high_watermark=1 last_stable_offset=1", "high_watermark=1"),
        (
            "x-0 batch=(base_offset=0 last_offset=1 leader_epoch=-1 records=[(offset=0 key=None value=17), "
            "(offset=1 key=a value=18)] producer_id=4 producer_epoch=0 base_sequence=2 timestamp=5) acks=1",
            "x-0 [17, 18] producer 4/0 sequence 2 acks=1",
        ),
        ("batches=[(base_offset=0 records=[(offset=0 key=None value=1…", "[1…] …"),
        ("batches=[(records=[(offset=9 key=None value=None)] control=ABORT)] error=X", "[ABORT] error=X"),
        ("session=3 nodes={/controller_epoch: {value=1}}", ""),
        (
            "ops=[(kind=CHECK path=/controller_epoch version=1), (kind=SET "
            "path=/brokers/topics/x/partitions/0/state value=(re…",
            "CHECK /controller_epoch, SET state of x-0",
        ),
        (
            "controller_id=3 controller_epoch=1 partitions=[[x-0, (replicas=[1, 2] isr=[1, 2] leader=1)]]",
            "controller_epoch=1 x-0 isr=[1, 2] leader=1",
        ),
    ],
)  # fmt: skip
def test_messages_are_told_without_what_nobody_asks_about(text: str, shorter: str) -> None:
    assert message_text(text) == shorter


@pytest.mark.parametrize(
    ("action", "arguments", "text"),
    [
        ("crash", {"machine": "broker-1", "keeps_unflushed": True, "at": 1}, "CRASH"),
        ("crash", {"machine": "broker-1", "keeps_unflushed": False}, "POWER LOSS, what was not flushed is gone"),
        ("step_clock", {"machine": "broker-1", "by": -1500}, "CLOCK STEPS -1,500 ms"),
        ("wipe_disk", {"machine": "broker-1"}, "DISK WIPED"),
        ("partition", {"sides": ["a", "b"], "at": 3}, "PARTITION: sides=[a, b]"),
    ],
)
def test_faults_in_words(action: str, arguments: dict[str, Json], text: str) -> None:
    assert fault_text(action, arguments) == text
