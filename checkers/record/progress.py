"""How a recording goes: on a terminal one line that changes, elsewhere a line for each thing done at its end."""

from __future__ import annotations

import sys
import time
from types import TracebackType
from typing import TYPE_CHECKING

from rich.console import Console
from rich.live import Live
from rich.text import Text

if TYPE_CHECKING:
    from hwmark.checkers.record.run import Run

PERIOD = 0.25  # s


class Progress:
    """A context manager; call it with the recording and what it is doing."""

    def __init__(self) -> None:
        self.is_shown = sys.stderr.isatty()
        self.live = Live(Text(), console=Console(stderr=True), auto_refresh=False, transient=True)
        self.at, self.operations, self.rate, self.doing = time.monotonic(), 0, 0.0, ""

    def __call__(self, run: Run, doing: str) -> None:
        """Look again."""
        now = time.monotonic()
        if not self.is_shown and doing != self.doing:
            print(doing, file=sys.stderr, flush=True)
        self.doing = doing
        if not self.is_shown or now - self.at < PERIOD:
            return
        operations = run.writer.counts["invoke"]
        self.rate = (operations - self.operations) / (now - self.at)
        self.at, self.operations = now, operations
        self.live.update(Text(self.text(run, doing)), refresh=True)

    def text(self, run: Run, doing: str) -> str:
        """The line."""
        counts, total = run.writer.counts, run.workload.seconds
        when = doing or f"{min(run.elapsed, total):.0f} of {total:.0f} s"
        return (
            f"{when}: {counts['invoke']:,} operations ({self.rate:,.0f} a second), "
            f"{run.writer.acknowledged:,} values acknowledged, {counts['fail']:,} failed, {counts['info']:,} unknown, "
            f"{run.writer.faults} faults"
        )

    def __enter__(self) -> Progress:
        if self.is_shown:
            self.live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.is_shown:
            self.live.stop()
