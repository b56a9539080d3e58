"""How wide a text is in Helvetica, of which Arial and Liberation Sans have the same measures.

Graphviz would measure text too, but differently with every installation, and its WebAssembly build not at all.
"""

from __future__ import annotations

from collections.abc import Iterator

_ASCII = range(0x20, 0x7F)
_REGULAR = """
278 278 355 556 556 889 667 191 333 333 389 584 278 333 278 278 556 556 556 556 556 556 556 556 556 556 278 278
584 584 584 556 1015 667 667 722 722 667 611 778 722 278 500 667 556 833 722 778 667 778 722 667 611 722 667 944
667 667 611 278 278 278 469 556 333 556 556 500 556 556 278 556 556 222 222 500 222 833 556 556 556 556 333 500
278 556 500 722 500 500 500 334 260 334 584
"""
_BOLD = """
278 333 474 556 556 889 722 238 333 333 389 584 278 333 278 278 556 556 556 556 556 556 556 556 556 556 333 333
584 584 584 611 975 722 722 722 722 667 611 778 722 278 556 722 611 833 722 778 667 778 722 667 611 722 667 944
667 667 611 333 278 333 584 556 333 556 611 556 611 556 333 611 611 278 278 556 278 889 611 611 611 611 389 556
333 611 556 778 556 556 500 389 280 389 584
"""
"""In thousandths of the font size, for the characters from the space to ~ (Adobe's metrics of the two fonts)."""

_WIDTHS = {
    is_bold: dict(zip(map(chr, _ASCII), map(int, table.split()), strict=True))
    for is_bold, table in ((False, _REGULAR), (True, _BOLD))
}
_IDEOGRAPHS_FROM, _IDEOGRAPH_WIDTH, _OTHER_WIDTH = "\u2e80", 1000, 600


def text_width(text: str, size: float, *, bold: bool = False) -> float:
    """The width of a text at a font size, both in points."""
    widths = _WIDTHS[bold]
    return sum(widths.get(letter) or _other(letter) for letter in text) * size / 1000


def wrapped(text: str, width: float, size: float, *, bold: bool = False) -> list[str]:
    """The text cut into lines that fit into `width` at a font size; a longer word stays whole."""
    return list(_lines(text.split(), width, size, bold)) or [""]


def _lines(words: list[str], width: float, size: float, bold: bool) -> Iterator[str]:
    line = ""
    for word in words:
        longer = f"{line} {word}" if line else word
        if line and text_width(longer, size, bold=bold) > width:
            yield line
            line = word
        else:
            line = longer
    if line:
        yield line


def _other(letter: str) -> int:
    return _IDEOGRAPH_WIDTH if letter >= _IDEOGRAPHS_FROM else _OTHER_WIDTH
