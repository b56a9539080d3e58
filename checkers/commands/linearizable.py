"""`hwmark linearizable`: judge operation files and recorded histories, and answer with the worst exit status."""

from __future__ import annotations

import argparse
import math
import sys
import time
import zlib
from io import BufferedReader
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson
from hwmark.checkers.commands.answers import print_json, require_standard_input_once
from hwmark.checkers.linearizability.judgement import VERDICT_WORDS
from hwmark.checkers.verdict import EXIT_BAD_INPUT, Holds, Unknown, Verdict, Violated, exit_status, verdict_name
from hwmark.traces.errors import BadInputError
from hwmark.traces.operations import GZIP_MAGIC, STANDARD_INPUT, read_operations

if TYPE_CHECKING:
    from hwmark.checkers.linearizability.judgement import Counterexample, Judgement
    from hwmark.traces.history import History, Key
    from hwmark.traces.operations import OperationHistory

PARTITION_LOG = "partition-log"
MODES = ("linearizable", "sessions", "sequential")
HEAD_BYTES = 65_536
LISTED = 20


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument(
        "files",
        nargs="+",
        metavar="FILE",
        help="operations as JSON lines, or a history in the format of Jepsen's Kafka workload, which is judged as one "
        "log for each partition; - is standard input",
    )
    parser.add_argument(
        "--model",
        metavar="NAME",
        help="the object that was asked: register, cas-register, kv, kv-append, set, queue, mutex, multi-register, "
        "nondet-register, partition-log, or a Python file with a model of your own (default: as the header says)",
    )
    parser.add_argument(
        "--timeout", type=_seconds, metavar="SECONDS", help="answer unknown when the search of a file takes longer"
    )
    logs = parser.add_argument_group("of partition logs")
    logs.add_argument(
        "--mode",
        choices=MODES,
        default=MODES[0],
        help="which order is asked for: one in real time, one that each process's own order agrees with in what it has "
        "seen and written (sessions), or one that agrees with every process's order (default: %(default)s)",
    )
    logs.add_argument(
        "--every-acknowledgement",
        action="store_true",
        help="of a recorded history: take every acknowledgement for a promise; without it, those of producers that "
        "asked for less than acks=all are not",
    )
    logs.add_argument(
        "--clock-uncertainty",
        type=_count,
        default=0,
        metavar="N",
        help="by how much a time may be wrong, in its own unit: nanoseconds in a recorded history (default: 0)",
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object on standard output instead of text")


def _seconds(text: str) -> float:
    """The type of a time limit."""
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < math.inf:
        raise argparse.ArgumentTypeError(f"expected a number of seconds above 0, not {text!r}")
    return value


def _count(text: str) -> int:
    """The type of a whole number from 0 on."""
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"expected a whole number from 0 on, not {text!r}")
    return int(text)


def run(arguments: argparse.Namespace) -> int:
    """Judge every file; an unusable one does not keep the others from being judged."""
    require_standard_input_once(arguments.files)
    started = time.perf_counter()
    judged = [_judge(file, arguments) for file in arguments.files]
    if arguments.json:
        reports = [report for _, report in judged]
        together = reports[0] if len(reports) == 1 else {"files": reports}
        print_json(together | {"seconds": round(time.perf_counter() - started, 6)})
    return max(status for status, _ in judged)


def _judge(file: str, arguments: argparse.Namespace) -> tuple[int, dict[str, Any]]:
    """The exit status and the JSON report of one file; the text for people is printed."""
    started = time.perf_counter()
    try:
        status, report, text = _answer(file, arguments)
    except BadInputError as error:
        if len(arguments.files) == 1:
            raise
        print(f"hwmark: {error}", file=sys.stderr)
        return EXIT_BAD_INPUT, {"file": file, "verdict": None, "error": str(error)}
    if not arguments.json:
        print("\n".join(text), file=sys.stderr)
    return status, report | {"seconds": round(time.perf_counter() - started, 6)}


def _answer(file: str, arguments: argparse.Namespace) -> tuple[int, dict[str, Any], list[str]]:
    """The exit status, the JSON report and the text for one file."""
    if _is_recorded_history(file):
        return _answer_for_partitions(file, arguments)
    history = read_operations(file)
    model, judgement = _judgement(history, arguments)
    report = {
        "file": file,
        "model": model,
        "verdict": VERDICT_WORDS[verdict_name(judgement.verdict)],
        "operations": judgement.operations,
    }
    report |= {"expected": history.expected} | _details(history, judgement)
    return exit_status(judgement.verdict), report, _text(history, model, judgement)


def _answer_for_partitions(file: str, arguments: argparse.Namespace) -> tuple[int, dict[str, Any], list[str]]:
    """The same for a recorded history: every partition is a log, and the worst of their verdicts counts."""
    from hwmark.checkers.linearizability.log_history import acknowledgements_are_promises, check_history
    from hwmark.checkers.linearizability.log_rule import Mode
    from hwmark.traces.history import read_history

    if arguments.model not in (None, PARTITION_LOG):
        raise BadInputError(file, 1, f"a recorded history is judged as {PARTITION_LOG}; expected no other --model")
    history = read_history(file)
    judgements = check_history(
        history,
        Mode(arguments.mode),
        every_acknowledgement_counts=arguments.every_acknowledgement,
        clock_uncertainty=arguments.clock_uncertainty,
    )
    verdicts = [judgement.verdict for judgement in judgements.values()]
    worst: Verdict[Counterexample] = max(verdicts, key=_gravity, default=Holds())
    partitions = [_partition(history, key, judgement) for key, judgement in judgements.items()]
    report = {
        "file": file,
        "model": PARTITION_LOG,
        "verdict": VERDICT_WORDS[verdict_name(worst)],
        "operations": sum(judgement.operations for judgement in judgements.values()),
        "partitions": partitions,
    }
    over = "1 partition" if len(partitions) == 1 else f"{len(partitions):,} partitions"
    text = [f"{file}: {report['verdict']} ({over}, {report['operations']:,} operations on them)"]
    if not (arguments.every_acknowledgement or acknowledgements_are_promises(history)):
        acks = history.configuration["acks"]
        text.append(f"with acks={acks} an acknowledgement is no promise; --every-acknowledgement takes each for one")
    for partition in partitions:
        shown = partition["counterexample"]
        if told := shown["sentence"] if shown else partition["why"]:
            text.append(f"partition {partition['key']}: {partition['verdict']}: {told}")
        text += [
            f"  line {operation['line']}: process {operation['process']}: {operation['f']}"
            for operation in (shown["operations"] if shown else ())
        ]
    return exit_status(worst), report, text


def _gravity(verdict: Verdict[Counterexample]) -> int:
    """Violated is worse than unknown, and that than a verdict that holds."""
    return isinstance(verdict, Unknown) + 2 * isinstance(verdict, Violated)


def _partition(history: History, key: Key, judgement: Judgement) -> dict[str, Any]:
    """One partition's verdict as JSON; its operations are rows of the history, named by line."""
    from hwmark.traces.history import NO_TIME, Function

    verdict, columns = judgement.verdict, history.operations
    shown = None
    if isinstance(verdict, Violated):
        rows = [
            {
                "operation": row,
                "line": int(columns.line[row]),
                "process": int(columns.process[row]),
                "f": Function(columns.function[row]).name.lower(),
                "invoked": int(columns.invoked_at[row]),
                "completed": None if columns.completed_at[row] == NO_TIME else int(columns.completed_at[row]),
            }
            for row in verdict.witness.operations
        ]
        shown = {"sentence": verdict.witness.sentence, "operations": rows}
    return {
        "key": key,
        "verdict": VERDICT_WORDS[verdict_name(verdict)],
        "operations": judgement.operations,
        "why": verdict.why if isinstance(verdict, Unknown) else None,
        "order": judgement.order,
        "counterexample": shown,
    }


def _judgement(history: OperationHistory, arguments: argparse.Namespace) -> tuple[str, Judgement]:
    """The model's name, and the judgement by it."""
    name, timeout = arguments.model, arguments.timeout
    if (name or history.model) == PARTITION_LOG:
        from hwmark.checkers.linearizability import log_operations
        from hwmark.checkers.linearizability.log_rule import Mode

        uncertainty = arguments.clock_uncertainty
        mode = Mode(arguments.mode)
        return PARTITION_LOG, log_operations.check_operations(history, mode, clock_uncertainty=uncertainty)
    if arguments.mode != MODES[0] or arguments.clock_uncertainty:
        reason = f"--mode and --clock-uncertainty are for {PARTITION_LOG}; this file's model is {name or history.model}"
        raise BadInputError(history.file, 1, reason)
    from hwmark.checkers.linearizability.models import MODELS, load_model, user_error
    from hwmark.checkers.linearizability.search import check_operations

    if name is None or name in MODELS:
        model = MODELS[name]() if name else None
        return name or history.model, check_operations(history, model, seconds=timeout)
    if not name.endswith(".py"):
        known = ", ".join([*MODELS, PARTITION_LOG])
        raise BadInputError("--model", None, f"unknown model {name!r}; expected one of {known}, or a file NAME.py")
    model = load_model(name)
    try:
        return model.name or type(model).__name__, check_operations(history, model, engine="plain", seconds=timeout)
    except BadInputError:
        raise
    except Exception as error:
        raise user_error(name, error) from None


def _is_recorded_history(file: str) -> bool:
    """Whether a file begins like a history, as invocations and completions, and not with a header."""
    line, end, _ = _head(file).lstrip().partition(b"\n")
    if line.startswith((b"[", b"(", b"{:", b"#", b";")):  # a list, or EDN
        return True
    try:
        record = orjson.loads(line)
    except orjson.JSONDecodeError:
        return not end and b'"type"' in line and b'"model"' not in line  # a line that is longer than the head
    return isinstance(record, dict) and "type" in record and "model" not in record


def _head(file: str) -> bytes:
    """The beginning of a file, which stays to be read; nothing of one that cannot be read."""
    try:
        if file == STANDARD_INPUT:
            standard_input = sys.stdin.buffer
            head = standard_input.peek(HEAD_BYTES) if isinstance(standard_input, BufferedReader) else b""
        else:
            if Path(file).is_fifo():
                raise BadInputError(
                    file, None, "a pipe can be read only once; expected a file, or - and it as standard input"
                )
            with Path(file).open("rb") as opened:
                head = opened.read(HEAD_BYTES)
        return zlib.decompressobj(31).decompress(head) if head.startswith(GZIP_MAGIC) else head
    except (OSError, zlib.error):
        return b""


def _details(history: OperationHistory, judgement: Judgement) -> dict[str, Any]:
    """The order, or why there is none, or why nobody knows, as JSON."""
    verdict = judgement.verdict
    return {
        "why": verdict.why if isinstance(verdict, Unknown) else None,
        "order": judgement.order,
        "counterexample": _counterexample(history, verdict.witness) if isinstance(verdict, Violated) else None,
    }


def _counterexample(history: OperationHistory, witness: Counterexample) -> dict[str, Any]:
    """The counterexample as JSON, its operations in full."""
    return {
        "sentence": witness.sentence,
        "operations": [
            {
                "operation": i,
                "line": i + 2,
                "process": history.process[i],
                "f": history.f[i],
                "input": history.input[i],
                "output": history.output[i],
                "call": history.call[i],
                "return": history.returned[i],
            }
            for i in witness.operations
        ],
        "window": witness.window,
        "longest_partials": witness.longest_partials,
    }


def _text(history: OperationHistory, model: str, judgement: Judgement) -> list[str]:
    """What people read."""
    verdict = judgement.verdict
    word = VERDICT_WORDS[verdict_name(verdict)]
    first = f"{history.file}: {word} ({model}, {judgement.operations:,} operations)"
    if isinstance(verdict, Unknown):
        return [f"{first}: {verdict.why}"]
    if not isinstance(verdict, Violated):
        return [first]
    from hwmark.checkers.linearizability.search_core import describe

    witness = verdict.witness
    lines = [f"  line {i + 2}: {describe(history, i)}" for i in witness.operations[:LISTED]]
    if len(witness.operations) > LISTED:
        lines.append(f"  and {len(witness.operations) - LISTED:,} more, which --json lists")
    if witness.longest_partials:
        longest = max(map(len, witness.longest_partials))
        lines.append(f"the longest order that works has {longest:,} operations")
    return [first, witness.sentence, *lines]
