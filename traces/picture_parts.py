"""What several pictures have in common: a legend, and the red caption that says what broke."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from hwmark.traces.canvas import RED, Canvas, Ink, text_height, text_width, wrapped

LEGEND_SIZE, CAPTION_SIZE, CAPTION_PADDING = 9.5, 12.5, 7.0
_ARROW_WIDTH, _LINE = 26.0, 20.0


@dataclass(frozen=True)
class Swatch:
    """A small box that stands for itself in the legend."""

    width: float = 18
    fill: str = "none"
    ink: Ink | None = None


def draw_legend(canvas: Canvas, y: float, right: float, entries: Iterable[tuple[Swatch | Ink, str]]) -> float:
    """Draw signs and what they mean, an ink as an arrow, in lines from y on; returns where the last line is."""
    x = 0.0
    for sign, words in entries:
        sign_width = _ARROW_WIDTH if isinstance(sign, Ink) else sign.width
        width = sign_width + 5 + text_width(words, LEGEND_SIZE)
        if x > 0 and x + width > right:
            x, y = 0.0, y + _LINE
        if isinstance(sign, Ink):
            canvas.line((x, y + 7), (x + sign_width, y + 7), ink=sign, arrow=True)
        else:
            canvas.box(x, y, sign.width, 13, fill=sign.fill, ink=sign.ink)
        canvas.text(x + sign_width + 5, y, width, words, size=LEGEND_SIZE)
        x += width + 16
    return y


def draw_caption(canvas: Canvas, y: float, right: float, sentence: str) -> float:
    """Draw in red what broke, over the whole width from y on; returns the height."""
    width = right - 2 * CAPTION_PADDING
    lines = wrapped(sentence, width, CAPTION_SIZE, bold=True)
    height = text_height(len(lines), CAPTION_SIZE) + 2 * CAPTION_PADDING
    canvas.box(0, y, right, height, fill="#fdecea", ink=Ink(RED, 1.5), rounded=True)
    for number, line in enumerate(lines):
        top = y + CAPTION_PADDING + text_height(number, CAPTION_SIZE)
        canvas.text(CAPTION_PADDING, top, width, line, size=CAPTION_SIZE, bold=True, colour=RED)
    return height
