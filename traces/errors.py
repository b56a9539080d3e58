"""Unusable input, told in one line that names the file, the line and the reason."""

from __future__ import annotations


class BadInputError(ValueError):
    """Input that cannot be used; `hwmark` prints it as one line and exits with status 2.

    `line` counts from 1; None where the whole file is meant.
    """

    def __init__(self, file: str, line: int | None, reason: str) -> None:
        self.file, self.line, self.reason = file, line, reason
        super().__init__(f"{file}:{line}: {reason}" if line is not None else f"{file}: {reason}")
