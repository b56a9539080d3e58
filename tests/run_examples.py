"""Runs of clusters, written by hand: a leader that loses its power before a record is on another disk."""

from __future__ import annotations

import copy
from dataclasses import dataclass, field
from typing import Any

from hwmark.traces.trace import Step, Trace, step_between


@dataclass
class RunWriter:
    """Writes a run down step by step, in the format of a simulated cluster's runs."""

    state: dict[str, Any]
    steps: list[Step] = field(default_factory=list)
    messages: int = 0

    @classmethod
    def of(cls, *machines: str) -> RunWriter:
        """A cluster whose machines are up, each broker with an empty replica of x-0."""
        views: dict[str, Any] = {name: {"state": "up", "clock": 0} for name in machines}
        for name in machines:
            if name.startswith("broker"):
                views[name] |= {"controller": False, "partitions": {"x-0": replica()}}
        return cls({"now": 0, "setup": {}, "machines": views, "network": {}, "returned": []})

    def __post_init__(self) -> None:
        self.initial = copy.deepcopy(self.state)

    def trace(self, **more: Any) -> Trace:
        """The run so far."""
        steps = tuple(self.steps)
        return Trace(model="refimpl", variant=None, bounds={}, initial=self.initial, steps=steps, seed=7, **more)

    def step(
        self, action: str, at: int, *, views: dict[str, Any] | None = None, sent: Any = (), **more: Any
    ) -> list[str]:
        """An action; `views` are the machines that it changed, `sent` the messages; the ids of these."""
        arguments, returned = more, more.pop("returned", [])
        before, after = self.state, copy.deepcopy(self.state)
        after["now"], after["returned"] = at, returned
        for name, change in (views or {}).items():
            after["machines"][name] = merged(after["machines"][name], change)
        if action in ("Deliver", "Drop"):
            del after["network"][arguments["message"]]
        if action == "Crash":
            to = arguments["machine"]
            after["network"] = {id: each for id, each in after["network"].items() if each["to"] != to}
        ids = [self._id() for _ in sent]
        after["network"] |= dict(zip(ids, sent, strict=True))
        arguments = {name: int(value) if name == "message" else value for name, value in arguments.items()}
        self.steps.append(step_between(before, after, action, {**arguments, "at": at}))
        self.state = after
        return ids

    def _id(self) -> str:
        self.messages += 1
        return str(self.messages)


def merged(old: Any, new: Any) -> Any:
    """An object with some of its fields replaced, those inside its objects too."""
    if not (isinstance(old, dict) and isinstance(new, dict)):
        return new
    return {**old, **{name: merged(old.get(name), value) for name, value in new.items()}}


def replica(**more: Any) -> dict[str, Any]:
    """A replica's view; its log's end follows from its log."""
    view = {
        "role": "follower",
        "leader_epoch": -1,
        "isr": [],
        "log_start_offset": 0,
        "high_watermark": 0,
        "log": [],
        **more,
    }
    return {**view, "last_stable_offset": view["high_watermark"], "log_end_offset": len(view["log"])}


def partition(**more: Any) -> dict[str, Any]:
    """A broker's view with this in its partition."""
    return {"partitions": {"x-0": replica(**more)}}


def message(
    source: str, to: str, kind: str, text: str, correlation: int = 1, *, answer: bool = False
) -> dict[str, Any]:
    """A message as the network shows it."""
    return {
        "from": source, "to": to, "kind": kind, "is_response": answer, "correlation": correlation, "text": text,
    }  # fmt: skip


def lost_record() -> Trace:
    """With acks=1 the leader answers before the follower has the record, and loses its power: the record is gone."""
    run = RunWriter.of("zookeeper", "broker-1", "broker-2", "producer-1", "consumer-1")
    led, epoch = {"leader_epoch": 0, "isr": [1, 2]}, {"leader_epoch": 1, "isr": [2]}
    ask = [message("broker-1", "zookeeper", "Create", "/controller", 1)]
    run.step("Start", 0, sent=[*ask, message("broker-2", "zookeeper", "Create", "/controller", 1)])
    [first] = run.step("Deliver", 2, message="1", sent=[message("zookeeper", "broker-1", "", "NONE", 1, answer=True)])
    [second] = run.step(
        "Deliver", 2, message="2", sent=[message("zookeeper", "broker-2", "", "NODE_EXISTS", 1, answer=True)]
    )
    told = [message("broker-1", f"broker-{n}", "LeaderAndIsr", "x-0 leader=1 epoch=0 isr=[1,2]", n) for n in (1, 2)]
    ids = run.step("Deliver", 4, message=first, views={"broker-1": {"controller": True}}, sent=told)
    run.step("Deliver", 5, message=second)
    run.step("Deliver", 6, message=ids[0], views={"broker-1": partition(role="leader", **led)})
    fetch = [message("broker-2", "broker-1", "Fetch", "x-0 fetch_offset=0", 3)]
    [fetch_1] = run.step("Deliver", 7, message=ids[1], views={"broker-2": partition(**led)}, sent=fetch)
    for at in range(100, 1000, 100):
        [answer] = run.step(
            "Deliver", at, message=fetch_1, sent=[message("broker-1", "broker-2", "Fetch", "NONE", 3, answer=True)]
        )
        [fetch_1] = run.step("Deliver", at + 2, message=answer, sent=fetch)
    operation = {"is": "producer.Send", "topic": "x", "key": None, "value": 17}
    produce = [message("producer-1", "broker-1", "Produce", "x-0 batch=[17] acks=1", 1)]
    [id] = run.step("Invoke", 1010, machine="producer-1", number=1, operation=operation, sent=produce)
    [copied] = run.step("Duplicate", 1011, message=id, sent=produce)
    one = [[0, 0, 17]]
    data = "batches=[(base_offset=0 last_offset=0 leader_epoch=0 records=[(offset=0 key=None value=17)])]"
    [answer] = run.step(
        "Deliver", 1014, message=id, views={"broker-1": partition(role="leader", log=one, **led)},
        sent=[message("broker-1", "producer-1", "Produce", "NONE base_offset=0", 1, answer=True)],
    )  # fmt: skip
    [records] = run.step(
        "Deliver", 1015, message=fetch_1, sent=[message("broker-1", "broker-2", "Fetch", data, 3, answer=True)]
    )
    done = {"machine": "producer-1", "number": 1, "outcome": {"is": "requests.Response", "value": [["x", 0], 0]}}
    run.step("Deliver", 1018, message=answer, returned=[done])
    run.step("Drop", 1019, message=records)
    run.step("Pause", 1020, machine="zookeeper")
    run.step(
        "Crash",
        1020,
        machine="broker-1",
        keeps_unflushed=False,
        views={"broker-1": {"state": "down"} | partition(role="offline")},
    )
    run.step("Resume", 1040, machine="zookeeper")
    assert copied not in run.state["network"]
    [event] = run.step(
        "Tick",
        20_000,
        machine="zookeeper",
        sent=[message("zookeeper", "broker-2", "WatchEvent", "/brokers/ids/1 deleted")],
    )
    [elect] = run.step(
        "Deliver", 20_002, message=event, views={"broker-2": {"controller": True}},
        sent=[message("broker-2", "broker-2", "LeaderAndIsr", "x-0 leader=2 epoch=1 isr=[2]", 4)],
    )  # fmt: skip
    run.step("Deliver", 20_003, message=elect, views={"broker-2": partition(role="leader", **epoch)})
    run.step("Restart", 20_500, machine="broker-1", views={"broker-1": {"state": "up"} | partition(role="offline")})
    [poll] = run.step(
        "Invoke", 21_000, machine="consumer-1", number=1, operation={"is": "consumer.Poll", "timeout": 100},
        sent=[message("consumer-1", "broker-2", "Fetch", "x-0 fetch_offset=0", 1)],
    )  # fmt: skip
    [reply] = run.step(
        "Deliver",
        21_003,
        message=poll,
        sent=[message("broker-2", "consumer-1", "Fetch", "OFFSET_OUT_OF_RANGE", 1, answer=True)],
    )
    failed = {"machine": "consumer-1", "number": 1, "outcome": {"is": "errors.Error", "name": "OFFSET_OUT_OF_RANGE"}}
    run.step("Deliver", 21_004, message=reply, returned=[failed])
    witness = {"partition": "x-0", "offset": 0, "value": 17, "machine": "broker-2"}
    return run.trace(property="acknowledged-records-survive", witness=witness)
