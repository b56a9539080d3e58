"""What an audit finds: its kinds, which of them are violations, and one of them as data."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any


class Weight(StrEnum):
    """What a finding means for the verdict."""

    VIOLATION = "violation"
    """A promise of Kafka is broken, or data are damaged."""
    REMARK = "remark"
    """Something that healthy clusters show too, after kills, retention or compaction."""
    UNKNOWN = "unknown"
    """Something could not be looked at, so nobody knows."""


@dataclass(frozen=True)
class Kind:
    """A kind of finding: what it weighs, and its meaning in a sentence."""

    weight: Weight
    meaning: str


VIOLATION, REMARK, UNKNOWN = Weight.VIOLATION, Weight.REMARK, Weight.UNKNOWN

CORRUPT_BATCH = "corrupt-batch"
OFFSET_GOES_BACK = "offset-goes-back"
OFFSET_GAP = "offset-gap"
COUNT_DISAGREES = "record-count-disagrees"
UNREADABLE = "unreadable-record"
EPOCH_GOES_BACK = "epoch-goes-back"
EPOCH_DISAGREES = "epoch-disagrees-with-checkpoint"
BEYOND_LOG = "checkpoint-beyond-log"
SEQUENCE_GAP = "sequence-gap"
SEQUENCE_REPEAT = "sequence-repeat"
PRODUCER_EPOCH_BACK = "producer-epoch-goes-back"
WITHOUT_MARKER = "transaction-without-marker"
INDEX_DISAGREES = "aborted-index-disagrees"
INDEX_MISLEADS = "index-misleads"
SNAPSHOT_DISAGREES = "snapshot-disagrees"
BAD_FILE = "bad-file"
DIFFER = "replicas-differ"
TORN_BATCH = "torn-batch"
TAILS_DIFFER = "uncommitted-tails-differ"
EPOCH_AHEAD = "epoch-checkpoint-ahead"
NO_EPOCHS = "no-epoch-checkpoint"
STARTS_LATE = "sequence-starts-late"
FORGOTTEN = "producer-forgotten"
OPEN = "transaction-open"
INDEX_BEHIND = "aborted-index-behind"
INDEX_AHEAD = "aborted-index-ahead"
BAD_SNAPSHOT = "bad-snapshot"
GROUP_BEYOND = "group-offset-beyond-log"
IDS_DIFFER = "topic-ids-differ"
SWAP = "swap-file"
LEFT_OUT = "left-out"
UNKNOWN_RECORD = "unknown-internal-record"
OLD_FORMAT = "old-message-format"
UNREADABLE_FILE = "unreadable-file"

KINDS = {
    CORRUPT_BATCH: Kind(VIOLATION, "bytes in a log that are no sound batch: CRC, length or format is wrong"),
    OFFSET_GOES_BACK: Kind(VIOLATION, "a batch begins before the one in front of it ends, or before its segment does"),
    OFFSET_GAP: Kind(VIOLATION, "offsets are missing in a log that nothing says was compacted"),
    COUNT_DISAGREES: Kind(VIOLATION, "a batch counts more records than it has offsets for"),
    UNREADABLE: Kind(VIOLATION, "records that cannot be taken apart in a batch whose CRC is right"),
    EPOCH_GOES_BACK: Kind(VIOLATION, "a batch of an older leader epoch follows one of a newer"),
    EPOCH_DISAGREES: Kind(VIOLATION, "batches of another leader epoch than leader-epoch-checkpoint has for them"),
    BEYOND_LOG: Kind(VIOLATION, "a checkpoint knows of offsets that the log once had and has no more"),
    SEQUENCE_GAP: Kind(VIOLATION, "sequence numbers of a producer are missing"),
    SEQUENCE_REPEAT: Kind(VIOLATION, "sequence numbers of a producer come again: records were written twice"),
    PRODUCER_EPOCH_BACK: Kind(VIOLATION, "a producer that had been fenced wrote on"),
    WITHOUT_MARKER: Kind(VIOLATION, "a transaction that its coordinator or its producer takes for ended has no marker"),
    INDEX_DISAGREES: Kind(VIOLATION, "a .txnindex lacks an aborted transaction of the log, or has another"),
    INDEX_MISLEADS: Kind(VIOLATION, "an .index or .timeindex that no broker will repair leads readers past records"),
    SNAPSHOT_DISAGREES: Kind(VIOLATION, "a .snapshot has another last batch of a producer than the log"),
    BAD_FILE: Kind(VIOLATION, "a checkpoint or an index that is not as Kafka writes it, or whose log is missing"),
    DIFFER: Kind(VIOLATION, "replicas that differ below the high watermark of both"),
    TORN_BATCH: Kind(REMARK, "the last batch was not written to its end when the broker died; it cuts it off"),
    TAILS_DIFFER: Kind(REMARK, "replicas differ above the high watermark of one of them; followers truncate such"),
    EPOCH_AHEAD: Kind(REMARK, "leader-epoch-checkpoint has entries beyond the log's end; a broker drops such"),
    NO_EPOCHS: Kind(REMARK, "there is no leader-epoch-checkpoint that the batches' epochs could be held against"),
    STARTS_LATE: Kind(REMARK, "the first sequence number of a producer in a whole log is not 0"),
    FORGOTTEN: Kind(REMARK, "a producer's sequence breaks after a pause in which brokers forget producers"),
    OPEN: Kind(REMARK, "a transaction was still open when the log ended"),
    INDEX_BEHIND: Kind(REMARK, "a .txnindex lacks the last aborted transactions; a broker writes it again"),
    INDEX_AHEAD: Kind(REMARK, "a .txnindex lists transactions from beyond the log's end; a broker writes it again"),
    BAD_SNAPSHOT: Kind(REMARK, "a .snapshot that a broker throws away as it cannot be read"),
    GROUP_BEYOND: Kind(REMARK, "a group's offset is beyond the end of every replica: lost records, or a client's whim"),
    IDS_DIFFER: Kind(REMARK, "the topic was created again and one replica is of the old one; they are not compared"),
    SWAP: Kind(REMARK, "segments that the cleaner was about to put into place; read as a broker would"),
    LEFT_OUT: Kind(REMARK, "files or folders of logs that were not read: being deleted, moved or cleaned, or unknown"),
    UNKNOWN_RECORD: Kind(REMARK, "records of an internal topic that are not understood"),
    OLD_FORMAT: Kind(UNKNOWN, "messages in a format from before v2, which is not supported and not read"),
    UNREADABLE_FILE: Kind(UNKNOWN, "a file that cannot be read"),
}  # fmt: skip


@dataclass(frozen=True)
class Finding:
    """One finding.

    `offsets` are the first and the last offset that it is about, `position` is a byte of `file`; None where there is
    no such thing.
    """

    kind: str
    sentence: str
    broker: str | None = None
    topic: str | None = None
    partition: int | None = None
    offsets: tuple[int, int] | None = None
    file: Path | None = None
    position: int | None = None

    @property
    def weight(self) -> Weight:
        """What it means for the verdict."""
        return KINDS[self.kind].weight

    def to_json(self) -> dict[str, Any]:
        """The finding as plain data."""
        return {
            "kind": self.kind,
            "weight": self.weight.value,
            "sentence": self.sentence,
            "broker": self.broker,
            "topic": self.topic,
            "partition": self.partition,
            "offsets": list(self.offsets) if self.offsets else None,
            "file": str(self.file) if self.file else None,
            "position": self.position,
        }
