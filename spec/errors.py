"""What the specification language refuses, told with the model, the function, the file and the line."""

from __future__ import annotations


class SpecError(ValueError):
    """A model, variant, bound, name or function body that the language does not accept."""


class RangeError(SpecError):
    """A body wrote a value outside its field's range, or used an index outside an array, while it ran."""
