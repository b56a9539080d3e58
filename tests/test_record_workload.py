"""What a recording asks for: the same from the same seed, no value twice, and options that make sense together."""

from __future__ import annotations

from itertools import islice
from types import SimpleNamespace
from typing import Any, NamedTuple

import pytest
from hwmark.checkers.cli import parser
from hwmark.checkers.commands.record_options import workload_of
from hwmark.checkers.record.outcomes import FAIL, INFO, REFUSED_FOR_ITSELF, REFUSED_ON_ARRIVAL, of_delivery
from hwmark.checkers.record.readers import Churn
from hwmark.checkers.record.workload import Workload
from hwmark.spec.errors import SpecError


def test_the_same_seed_asks_for_the_same_transactions() -> None:
    one, same, other = (list(islice(Workload(seed=seed, abort_percent=50).transactions(2), 50)) for seed in (1, 1, 2))
    assert one == same != other
    assert {transaction.abort for transaction in one} == {True, False}
    assert {len(transaction.sends) for transaction in one} == {1, 2, 3, 4}


def test_clients_draw_apart() -> None:
    workload = Workload(seed=1)
    assert workload.generator("producer", 0).random() != workload.generator("producer", 1).random()


def test_no_two_clients_send_the_same_value() -> None:
    workload = Workload(producers=2, transactional=1, transformers=3)
    sent = [value for client in range(6) for value in islice(workload.values(client), 100)]
    assert len(set(sent)) == len(sent)


def test_a_member_leaves_some_time_after_it_was_taken_in() -> None:
    """However long that took; the next one has a time of its own."""
    run: Any = SimpleNamespace(workload=Workload(churn=2.0, transformers=3), elapsed=100.0)
    churn = Churn(run, "transformer", 0)
    for _ in range(3):
        assert not churn.is_due(is_member=False)
        run.elapsed += 50
        assert not churn.is_due(is_member=True)
        run.elapsed += 2.9
        assert not churn.is_due(is_member=True)
        run.elapsed += 6.2
        assert churn.is_due(is_member=True)
    run.workload = Workload(churn=0)
    assert not Churn(run, "subscriber", 0).is_due(is_member=True)


def test_keys_are_topics_times_partitions_and_outputs_are_apart() -> None:
    workload = Workload(topics=2, partitions=2, prefix="p")
    assert [key.name for key in workload.inputs] == ["p-0-0", "p-0-1", "p-1-0", "p-1-1"]
    assert [key.name for key in workload.outputs] == ["p-out-0", "p-out-1"]
    assert Workload(transformers=0).outputs == []


def asked(*options: str) -> Any:
    return parser().parse_args(["record", *options])


class Recipe(NamedTuple):
    """As much of a recipe as a workload needs."""

    workload: dict[str, Any]
    seconds: float = 25.0


def test_options_count_more_than_the_recipe_and_that_more_than_defaults() -> None:
    recipe: Any = Recipe({"acks": "1", "idempotent": False, "rate": 50.0})
    workload = workload_of(asked("--rate", "70"), recipe, 5)
    assert (workload.acks, workload.idempotent, workload.rate, workload.seconds) == ("1", False, 70.0, 25.0)
    assert workload_of(asked(), None, 5) == Workload(seed=5)
    assert workload_of(asked("--bootstrap-servers", "a:1"), None, 5).prefix == "hwmark-5"


def test_acks_of_less_than_all_are_without_idempotence_and_without_retries() -> None:
    assert not workload_of(asked("--acks", "1"), None, 5).idempotent
    assert workload_of(asked("--acks", "1"), None, 5).retries_are_off
    assert not workload_of(asked("--acks", "1", "--retries", "3"), None, 5).retries_are_off


@pytest.mark.parametrize(
    "options",
    [
        ["--producers", "0", "--transactional", "0"],
        ["--readers", "0", "--subscribers", "0", "--transformers", "0"],
        ["--prefix", "a b"],
        ["--prefix", ".."],
    ],
)
def test_a_workload_that_makes_no_sense_is_refused(options: list[str]) -> None:
    with pytest.raises(SpecError, match=r"^--"):
        workload_of(asked(*options), None, 5)


def test_via_says_whether_anybody_subscribes() -> None:
    assert Workload(subscribers=0, transformers=0).via == "assign"
    assert Workload(subscribers=0).via == Workload(transformers=0).via == "subscribe"


# ------------------------------------------------------------ outcomes


@pytest.mark.parametrize("acks", ["all", "1", "0"])
@pytest.mark.parametrize("retries_are_off", [True, False])
@pytest.mark.parametrize(
    "error",
    [
        "_MSG_TIMED_OUT", "_TIMED_OUT", "_TRANSPORT", "REQUEST_TIMED_OUT", "NOT_ENOUGH_REPLICAS_AFTER_APPEND",
        "KAFKA_STORAGE_ERROR", "OUT_OF_ORDER_SEQUENCE_NUMBER", "_PURGE_INFLIGHT", "_PURGE_QUEUE", "_FATAL",
        "_GAPLESS_GUARANTEE", "UNKNOWN", "an error of a later version",
    ],
)  # fmt: skip
def test_what_may_have_been_written_is_unknown(error: str, acks: str, retries_are_off: bool) -> None:
    assert of_delivery(error, acks=acks, retries_are_off=retries_are_off) == INFO


@pytest.mark.parametrize("error", sorted(REFUSED_ON_ARRIVAL))
def test_a_refusal_is_certain_only_of_the_only_attempt(error: str) -> None:
    """With acks=all a leader that has appended may answer NOT_LEADER, and the client sends again."""
    assert of_delivery(error, acks="1", retries_are_off=True) == FAIL
    assert of_delivery(error, acks="0", retries_are_off=True) == FAIL
    assert of_delivery(error, acks="all", retries_are_off=True) == INFO
    assert of_delivery(error, acks="1", retries_are_off=False) == INFO


@pytest.mark.parametrize("error", sorted(REFUSED_FOR_ITSELF))
def test_what_is_wrong_with_the_record_itself_is_certain(error: str) -> None:
    assert of_delivery(error, acks="all", retries_are_off=False) == FAIL


def test_the_names_are_librdkafka_s() -> None:
    """A misspelt name would never be met."""
    from confluent_kafka import KafkaError

    known = {KafkaError(code).name() for code in range(-200, 130)}
    assert known >= REFUSED_ON_ARRIVAL | REFUSED_FOR_ITSELF
