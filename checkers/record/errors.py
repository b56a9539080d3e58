"""What keeps a recording from being made."""

from __future__ import annotations

from hwmark.spec.errors import SpecError


class RecordingError(SpecError):
    """A cluster cannot be reached or used as asked; `hwmark` prints it as one line, exit status 2."""
