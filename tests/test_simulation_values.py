"""Machines' state as values: copied, frozen and written as JSON, each beside its plain twin."""

from __future__ import annotations

import dataclasses
import json
import pickle
from collections.abc import Hashable, Iterator
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, NamedTuple

import pytest
from hwmark.checkers.simulation.encoding import decode, encode
from hwmark.checkers.simulation.values import copy_of, freeze, is_immutable, plain_copy, plain_freeze
from hwmark.refimpl import requests as rpc
from hwmark.refimpl.batches import Batch, Producer, Record
from hwmark.refimpl.config import ClusterConfig, Topic
from hwmark.refimpl.errors import Error
from hwmark.refimpl.group_coordinator import ConsumerGroupMetadata
from hwmark.refimpl.log import Log
from hwmark.refimpl.machine import Asked, Message, Outbox
from hwmark.refimpl.replica import Replica
from hypothesis import given
from hypothesis import strategies as st


class Colour(Enum):
    RED = 1
    BLUE = 2


class Point(NamedTuple):
    x: int
    y: Hashable = None


class Other(NamedTuple):
    x: int
    y: Hashable = None


class Holder(NamedTuple):
    what: Any


@dataclass(slots=True)
class Node:
    value: Any
    next: Any = None
    table: dict[Any, Any] = field(default_factory=dict)


scalars = st.integers(-2, 2) | st.sampled_from(["", "a", Colour.RED, Colour.BLUE, None])
keys = (
    scalars | st.builds(Point, st.integers(0, 1), scalars) | st.tuples(st.sampled_from(["x", "y"]), st.integers(0, 1))
)
states = st.recursive(
    keys | st.builds(Other, st.integers(0, 1), scalars),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.lists(inner, max_size=3).map(tuple)
        | st.dictionaries(keys, inner, max_size=3)
        | st.frozensets(keys, max_size=3).map(set)
        | st.builds(Holder, inner)
        | st.builds(Node, inner, inner, st.dictionaries(keys, inner, max_size=2))
    ),
    max_leaves=12,
)


def mutables(value: Any) -> list[Any]:
    """Every object in a value that can change, each as often as it can be reached."""
    if isinstance(value, Node):
        return [value, *mutables(value.value), *mutables(value.next), *mutables(value.table)]
    if isinstance(value, dict):
        return [value, *(one for each in value.values() for one in mutables(each))]
    if isinstance(value, list | tuple):
        inner = [one for each in value for one in mutables(each)]
        return [value, *inner] if isinstance(value, list) else inner
    return [value] if isinstance(value, set) else []


@given(states)
def test_copies_agree_with_the_standard_librarys_and_share_nothing_that_changes(state: Any) -> None:
    copied = copy_of(state)
    assert copied == plain_copy(state) and plain_freeze(copied) == plain_freeze(state)
    assert not {id(one) for one in mutables(copied)} & {id(one) for one in mutables(state)}


@given(states, st.integers(0, 4))
def test_what_is_one_object_is_one_in_the_copy(state: Any, shape: int) -> None:
    twice = [
        Node(state, state),
        [state, {"a": state}],
        (state, [state]),
        Holder((state, state)),
        {1: state, 2: [state]},
    ]
    copied = copy_of(twice[shape])
    there, here = mutables(twice[shape]), mutables(copied)
    assert [[a is b for b in there] for a in there] == [[a is b for b in here] for a in here]


@given(states, states)
def test_frozen_states_are_equal_exactly_when_their_texts_are(one: Any, other: Any) -> None:
    assert (freeze(one) == freeze(other)) == (plain_freeze(one) == plain_freeze(other))
    again = plain_copy(one)
    assert freeze(again) == freeze(one) and hash(freeze(again)) == hash(freeze(one))


def changed(value: Any) -> Iterator[Any]:
    """The value with each of its leaves, or keys, replaced, and with one more element wherever there are some."""
    if isinstance(value, Node):
        for name in ("value", "next", "table"):
            yield from (dataclasses.replace(value, **{name: each}) for each in changed(getattr(value, name)))
    elif isinstance(value, dict):
        for key, inner in value.items():
            others = {other: each for other, each in value.items() if other != key}
            yield from ({**others, key: each} for each in changed(inner))
            yield {**others, "new": inner}
        yield {**value, "new": "new"}
    elif isinstance(value, Point | Other | Holder):
        for name, inner in value._asdict().items():
            yield from (value._replace(**{name: each}) for each in changed(inner))
    elif isinstance(value, list | tuple):
        for place, inner in enumerate(value):
            yield from (type(value)((*value[:place], each, *value[place + 1 :])) for each in changed(inner))
        yield type(value)((*value, "new"))
    else:
        yield value | {"new"} if isinstance(value, set) else "new"


@given(states)
def test_whatever_differs_freezes_to_something_else(state: Any) -> None:
    frozen = freeze(state)
    assert all(freeze(other) != frozen for other in changed(state))


@given(st.dictionaries(keys, states, min_size=2, max_size=4))
def test_the_order_of_a_dict_does_not_matter(state: dict[Any, Any]) -> None:
    turned = dict(reversed(state.items()))
    assert freeze(state) == freeze(turned) and plain_freeze(state) == plain_freeze(turned)
    assert freeze(Node(state)) == freeze(Node(turned))


def test_values_of_different_classes_differ() -> None:
    who = ConsumerGroupMetadata("g")
    assert freeze(rpc.HeartbeatRequest(who)) != freeze(rpc.LeaveGroupRequest(who))
    assert freeze(Point(1)) != freeze([Point(1)])
    assert freeze([Point(1)]) != freeze([Other(1)]) and freeze((Point(1), Other(1))) != freeze((Other(1), Point(1)))
    assert freeze(Message("a", "b", 1, Point(1))) != freeze(Message("a", "b", 1, Other(1)))


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        (Batch, True),
        (Record, True),
        (ClusterConfig, True),
        (rpc.ProduceRequest, True),
        (rpc.FetchResponse, False),
        (Message, False),
        (Asked, False),
        (Log, False),
        (Error, True),
        (tuple[int, ...], True),
        (int | list[int], False),
    ],
)
def test_what_never_changes(kind: Any, expected: bool) -> None:
    assert is_immutable(kind) is expected


def a_replica() -> Replica:
    log = Log()
    for value in range(3):
        records = (Record(0, "k", value), Record(1, None, (value, "v")))
        log.append_as_leader(Batch(0, 1, 0, records, 7, 0, 2 * value, is_transactional=True), 1)
    return Replica(1, ("x", 0), ClusterConfig(), log)


def test_a_replica_is_copied_with_its_log_and_shares_its_batches() -> None:
    replica = a_replica()
    broker = Node(replica, None, {("x", 0): replica.log})
    copied = copy_of(broker)
    assert copied == broker and freeze(copied) == freeze(broker) == freeze(plain_copy(broker))
    assert copied.value.log is copied.table["x", 0] is not replica.log
    assert copied.value.log.batches is not replica.log.batches
    assert copied.value.log.batches[0] is replica.log.batches[0]
    copied.value.log.truncate_to(2)
    assert freeze(copied) != freeze(broker) and replica.log.log_end_offset == 6


def test_what_is_no_state_is_refused() -> None:
    for function in (copy_of, freeze):
        with pytest.raises(TypeError, match="object is no state"):
            function(Node([object()]))


VALUES = [
    ClusterConfig(topics=(Topic("x", ((1, 2), (2, 1))), Topic("y", ((3,),), True)), kip_101=False),
    rpc.EndTxnRequest(Producer("t", 1, 0), "COMMIT", 2),
    rpc.FetchResponse(Error.NOT_LEADER_OR_FOLLOWER, [Batch(0, 0, 1, (Record(0, None, "a"),))], aborted=((1, 2),)),
    rpc.Response(Error.NONE, {("x", 0): Error.NONE, ("x", 1): True}),
    (),
    (1, "a", None, (False, ())),
    Outbox("a", 10),
    Asked("b", rpc.MetadataRequest(), None, 3),
]


@pytest.mark.parametrize("value", VALUES)
def test_json_and_back(value: Any) -> None:
    back = decode(json.loads(json.dumps(encode(value))))
    assert back == value and plain_freeze(back) == plain_freeze(value) and pickle.loads(pickle.dumps(value)) == back


def test_only_what_is_not_the_default_is_written() -> None:
    assert encode(ClusterConfig(brokers=(1, 2), kip_497=False)) == {
        "is": "config.ClusterConfig",
        "brokers": [1, 2],
        "kip_497": False,
    }


@pytest.mark.parametrize(
    ("value", "why"),
    [
        ({"brokers": []}, 'says what it "is"'),
        ({"is": 3}, 'says what it "is"'),
        ({"is": "config.Nothing"}, "none of the reference implementation's values"),
        ({"is": "os.system"}, "none of the reference implementation's values"),
        ({"is": "config.BrokerIds"}, "none of the reference implementation's values"),
        ({"is": "machine.Protocol"}, "none of the reference implementation's values"),
        ({"is": "config.Topic", "name": "x"}, "needs the field 'assignment'"),
        ({"is": "config.Topic", "name": "x", "assignment": [], "size": 1}, "no field 'size'"),
        ({"is": "config.Topic", "name": 1, "assignment": []}, r"config.Topic.name must be str, not 1"),
        ({"is": "config.ClusterConfig", "brokers": ["a"]}, "brokers must be tuple"),
        ({"is": "config.ClusterConfig", "kip_101": 1}, "kip_101 must be bool"),
        ({"is": "errors.Error", "name": "OOPS"}, "has no 'OOPS'"),
        ({"is": "errors.Error", "name": ["NONE"]}, "has no"),
        ({"is": "dict", "items": [1]}, "arrays of a key and a value"),
        ({"is": "dict", "items": [[{"is": "list", "items": []}, 1]]}, "arrays of a key and a value"),
        ({"is": "list"}, "items as an array"),
    ],
)
def test_bad_json_is_refused_with_a_sentence(value: Any, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        decode(value)
