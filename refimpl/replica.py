"""What a broker does with one partition: lead it, or follow its leader.

What the replica wants is its `request`, which the broker sends until it is answered: a leader's to the controller for
another ISR, a follower's to its leader; Kafka calls it Truncating while that is an OffsetsForLeaderEpoch. After every
step that touched the partition, the broker moves a leader's high watermark, and looks again at who waits here: whether
a fetch finds records, or an append is `acknowledged`.

Simpler than in Kafka: a follower catches up only where it fetches at the end of the log, not also at what was the end
when it fetched before; a fetch waits for records, not for a high watermark (KIP-392); DeleteRecords does not wait for
the followers; whoever says that it is a replica may read, but counts only if it is.

Source: kafka.cluster.Partition, AbstractFetcherThread, DelayedProduce, DelayedFetch.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, NamedTuple

from hwmark.refimpl import requests as rpc
from hwmark.refimpl.batches import UNDEFINED, Batch, EpochEndOffset, TopicPartition
from hwmark.refimpl.config import ClusterConfig
from hwmark.refimpl.errors import Error, KafkaError
from hwmark.refimpl.log import Log
from hwmark.refimpl.partition_change import NO_LEADER, BrokerIds, PartitionRegistration, without

NEVER = 2**62


class Delayed(NamedTuple):
    """Who waits, for what, and until when: a fetch for records, an append with acks=all for the high watermark."""

    waiter: Any
    deadline: int
    awaited: rpc.FetchRequest | Batch


class FollowerState(NamedTuple):
    """What a leader knows of a follower; an offset of -1 is not known yet."""

    last_caught_up_time: int
    log_end_offset: int = -1


@dataclass(slots=True)
class Replica:
    """One replica of a partition. `ask_at` is when to send the request, again perhaps."""

    broker_id: int
    topic_partition: TopicPartition
    config: ClusterConfig
    log: Log = field(default_factory=Log)
    leader: int = NO_LEADER
    is_leader: bool = False
    leader_epoch: int = -1
    partition_epoch: int = -1
    min_isr: int = 1
    leader_epoch_start_offset: int = -1
    isr: BrokerIds = ()
    followers: dict[int, FollowerState] = field(default_factory=dict)
    waiting: list[Delayed] = field(default_factory=list)
    request: rpc.AlterPartitionRequest | rpc.FollowerRequest | None = None
    ask_at: int = NEVER

    def become(self, state: PartitionRegistration, now: int) -> None:
        """Take the controller's word on who leads, unless it is old."""
        if (state.leader_epoch, state.partition_epoch) <= (self.leader_epoch, self.partition_epoch):
            return
        is_new_epoch = state.leader_epoch > self.leader_epoch
        self.leader, self.leader_epoch, self.partition_epoch = state.leader, state.leader_epoch, state.partition_epoch
        self.is_leader = state.leader == self.broker_id
        self.min_isr = min(self.config.min_insync_replicas, len(state.replicas))
        if is_new_epoch or self.is_leader:
            self._want(None)
        if self.is_leader:
            known = {} if is_new_epoch else self.followers
            others, self.isr = without(state.replicas, (self.broker_id,)), state.isr
            self.followers = {id: known.get(id) or FollowerState(now if id in self.isr else -NEVER) for id in others}
        if is_new_epoch and self.is_leader:
            self.leader_epoch_start_offset = self.log.log_end_offset
            self.log.assign_leader_epoch(self.leader_epoch, self.log.log_end_offset)
        elif is_new_epoch and self.leader != NO_LEADER and self.broker_id in state.replicas:
            self._ask(True)

    @property
    def deadline(self) -> int:
        """When there is something to do."""
        return min([self.ask_at, *[delayed.deadline for delayed in self.waiting]])

    def complete(self, now: int) -> list[tuple[Any, Any]]:
        """Who need not wait any longer, and the answers."""
        outcomes = [(delayed, self._outcome(delayed, now)) for delayed in self.waiting]
        self.waiting = [delayed for delayed, answer in outcomes if answer is None]
        return [(delayed.waiter, answer) for delayed, answer in outcomes if answer is not None]

    def _outcome(self, delayed: Delayed, now: int) -> Any:
        is_late = now >= delayed.deadline
        try:
            if isinstance(delayed.awaited, Batch):
                return self.acknowledged(delayed.awaited, is_late)
            response = self.read(delayed.awaited)
            return response if is_late or response.batches or response.diverging_epoch else None
        except KafkaError as refusal:
            return rpc.refusal(delayed.awaited, refusal.error)

    # A leader's part

    def produce(self, batch: Batch, acks: int) -> Batch:
        """Append; a producer with acks=all (-1) waits until that is `acknowledged`."""
        self._check_leader(batch.leader_epoch)
        if acks == -1 and len(self.isr) < self.min_isr:
            raise KafkaError(Error.NOT_ENOUGH_REPLICAS, f"{self.isr} are less than {self.min_isr}")
        return self.log.append_as_leader(batch, self.leader_epoch)

    def acknowledged(self, written: Batch, is_late: bool = False) -> rpc.Response | None:
        """An append is, once the high watermark passed it."""
        self._check_leader()
        if self.log.high_watermark <= written.last_offset:
            return rpc.Response(Error.REQUEST_TIMED_OUT) if is_late else None
        if len(self.maximal_isr) < self.min_isr:
            raise KafkaError(Error.NOT_ENOUGH_REPLICAS_AFTER_APPEND)
        return rpc.Response(Error.NONE, written.base_offset)

    def fetch(self, request: rpc.FetchRequest, now: int) -> rpc.FetchResponse:
        """Read for a consumer, or for a follower and count what it has."""
        response, id = self.read(request), request.replica_id
        if id not in self.followers or response.diverging_epoch:
            return response
        has_all, caught_up = request.fetch_offset >= self.log.log_end_offset, self.followers[id].last_caught_up_time
        self.followers[id] = FollowerState(now if has_all else caught_up, request.fetch_offset)
        committed_max = max(self.log.high_watermark, self.leader_epoch_start_offset if self.config.kip_320 else 0)
        if request.fetch_offset >= committed_max and id not in self.isr:
            self._propose((*self.isr, id))
        return response

    def read(self, request: rpc.FetchRequest) -> rpc.FetchResponse:
        """What a fetch is answered: records and the ends of the log, or where the reader's log diverged."""
        self._check_leader(request.current_leader_epoch)
        log, offset, is_follower = self.log, request.fetch_offset, request.replica_id != rpc.CONSUMER
        ends = log.high_watermark, log.last_stable_offset, log.log_start_offset
        if request.last_fetched_epoch >= 0:
            answer = log.end_offset_for_epoch(request.last_fetched_epoch)
            if answer == UNDEFINED or offset < log.log_start_offset:
                raise KafkaError(Error.OFFSET_OUT_OF_RANGE, f"{offset} after epoch {request.last_fetched_epoch}")
            if answer.epoch < request.last_fetched_epoch or answer.end_offset < offset:
                return rpc.FetchResponse(Error.NONE, (), *ends, answer)
        limit = log.last_stable_offset if request.is_read_committed else log.high_watermark
        batches = log.read(offset, log.log_end_offset if is_follower else limit, request.max_records)
        aborted = log.aborted_in(offset, batches[-1].next_offset) if batches and request.is_read_committed else []
        return rpc.FetchResponse(
            Error.NONE, batches, *ends, None, tuple([(t.producer_id, t.first_offset) for t in aborted])
        )

    def list_offsets(self, request: rpc.ListOffsetsRequest) -> rpc.Response:
        """Where the log starts, or ends for this reader; a new leader may not know yet what is committed (KIP-207)."""
        self._check_leader(request.current_leader_epoch)
        log = self.log
        if request.timestamp == rpc.EARLIEST:
            return rpc.Response(Error.NONE, log.log_start_offset)
        if request.replica_id != rpc.CONSUMER:
            return rpc.Response(Error.NONE, log.log_end_offset)
        if self.leader_epoch_start_offset > log.high_watermark:
            raise KafkaError(Error.OFFSET_NOT_AVAILABLE, f"epoch {self.leader_epoch} begins above it")
        return rpc.Response(Error.NONE, log.last_stable_offset if request.is_read_committed else log.high_watermark)

    def offsets_for_leader_epoch(self, request: rpc.OffsetsForLeaderEpochRequest) -> rpc.Response:
        """Where an epoch ended in this log, or the last one before it that is known here."""
        self._check_leader(request.current_leader_epoch)
        epoch, end = self.log.end_offset_for_epoch(request.leader_epoch)
        return rpc.Response(Error.NONE, EpochEndOffset(epoch if self.config.kip_279 else -1, end))

    def delete_records(self, offset: int) -> rpc.Response:
        """Hide the records below an offset, or all (-1); the followers do when they fetch."""
        self._check_leader()
        self.log.maybe_increment_log_start_offset(self.log.high_watermark if offset == -1 else offset)
        return rpc.Response(Error.NONE, self.log.log_start_offset)

    @property
    def maximal_isr(self) -> BrokerIds:
        """The ISR, with who joins it if what was asked for is granted (KIP-497)."""
        asked = self.request
        return self.isr + without(asked.isr, self.isr) if isinstance(asked, rpc.AlterPartitionRequest) else self.isr

    def maybe_increment_high_watermark(self, now: int) -> None:
        """A leader's goes to what all have who are in the maximal ISR or, having caught up lately, about to join it."""
        if not self.is_leader or (self.config.kip_966 and len(self.isr) < self.min_isr):
            return
        isr = self.maximal_isr
        ends = [f.log_end_offset for id, f in self.followers.items() if id in isr or self._on_time(f, now)]
        self.log.update_high_watermark(max(self.log.high_watermark, min(ends, default=self.log.log_end_offset)))

    def maybe_shrink_isr(self, now: int) -> None:
        """Propose an ISR without those who have not caught up for replica.lag.time.max.ms, nor wait for others."""
        if self.is_leader:
            late = tuple([id for id, follower in self.followers.items() if not self._on_time(follower, now)])
            self._propose(without(self.isr, late))

    def _check_leader(self, epoch: int = -1) -> None:
        if epoch not in (-1, self.leader_epoch) and self.config.kip_320:
            error = Error.FENCED_LEADER_EPOCH if epoch < self.leader_epoch else Error.UNKNOWN_LEADER_EPOCH
            raise KafkaError(error, f"{epoch} is not {self.leader_epoch}")
        if not self.is_leader:
            raise KafkaError(Error.NOT_LEADER_OR_FOLLOWER, f"{self.leader} leads in {self.leader_epoch}")

    def _on_time(self, follower: FollowerState, now: int) -> bool:
        has_all = follower.log_end_offset == self.log.log_end_offset
        return has_all or now - follower.last_caught_up_time <= self.config.replica_lag_time_max

    def _propose(self, isr: BrokerIds) -> None:
        if isr != self.isr and not self.request:
            epochs = self.leader_epoch, self.partition_epoch
            self._want(rpc.AlterPartitionRequest(self.topic_partition, self.broker_id, *epochs, isr))

    # What it asks, and the answers

    def _want(self, request: rpc.AlterPartitionRequest | rpc.FollowerRequest | None) -> None:
        self.request, self.ask_at = request, NEVER if request is None else -NEVER

    def handle_response(self, request: Any, response: Any, now: int) -> None:
        """Go on by the answer, unless it is to another request; or ask again later, but not in a fenced epoch.

        An ISR stays wanted, as it may have been granted, until the controller says so or who leads.
        """
        if request != self.request:
            return
        if response.error is Error.OFFSET_OUT_OF_RANGE:
            self._want(rpc.ListOffsetsRequest(self.topic_partition, rpc.LATEST, self.leader_epoch, self.broker_id))
        elif response.error is Error.INELIGIBLE_REPLICA:
            self._want(None)
        elif response.error is not Error.NONE:
            self.ask_at = NEVER if response.error is Error.FENCED_LEADER_EPOCH else now + self.config.retry_backoff
        elif isinstance(request, rpc.AlterPartitionRequest):
            self.partition_epoch, self.isr = response.value
            self._want(None)
        elif isinstance(request, rpc.ListOffsetsRequest):
            self._reset(request, response.value)
        elif isinstance(request, rpc.OffsetsForLeaderEpochRequest):
            self._truncate(response.value)
        elif response.diverging_epoch:
            self._truncate(response.diverging_epoch)
        else:
            self._append(response)
            self._ask(False)

    def _append(self, response: rpc.FetchResponse) -> None:
        log, batches = self.log, response.batches
        if batches and batches[0].base_offset < log.log_end_offset == log.log_start_offset:
            log.truncate_fully_and_start_at(batches[0].base_offset)  # the leader's log starts within a batch
        log.append_as_follower(batches)
        log.update_high_watermark(response.high_watermark)
        log.maybe_increment_log_start_offset(response.log_start_offset)

    def _ask(self, is_truncating: bool) -> None:
        """Fetch on; if the logs may differ, either the leader says so then, or it is asked first, or nobody knows."""
        log, config = self.log, self.config
        last_epoch = log.latest_epoch if config.kip_101 else -1
        if is_truncating and last_epoch < 0:
            log.truncate_to(log.high_watermark)
        if is_truncating and last_epoch >= 0 and not config.kip_595:
            return self._want(rpc.OffsetsForLeaderEpochRequest(self.topic_partition, last_epoch, self.leader_epoch))
        at = self.topic_partition, log.log_end_offset, self.leader_epoch, last_epoch if config.kip_595 else -1
        most = config.replica_fetch_max_records, False, config.replica_fetch_wait_max
        return self._want(rpc.FetchRequest(*at, self.broker_id, *most))

    def _truncate(self, leaders: EpochEndOffset) -> None:
        """To the end of the last epoch that both logs know, asking again if this log has to go back one further."""
        own = self.log.end_offset_for_epoch(leaders.epoch)
        is_final = own == UNDEFINED or own.epoch == leaders.epoch
        end = leaders.end_offset if leaders.end_offset >= 0 else self.log.high_watermark
        self.log.truncate_to(end if own == UNDEFINED else min(own.end_offset, end))
        self._ask(not is_final)

    def _reset(self, request: rpc.ListOffsetsRequest, offset: int) -> None:
        """Out of range: go back to the leader's end, or else begin anew at its start if this log ends before it."""
        if request.timestamp == rpc.LATEST and offset >= self.log.log_end_offset:
            return self._want(request._replace(timestamp=rpc.EARLIEST))
        if request.timestamp == rpc.LATEST:
            self.log.truncate_to(offset)
        elif offset > self.log.log_end_offset:
            self.log.truncate_fully_and_start_at(offset)
        return self._ask(False)
