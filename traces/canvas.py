"""Boxes, texts and lines at exact places, as DOT source.

Graphviz draws but does not lay out (`layout=nop`): a space-time diagram has its columns and rows already, and tables in
HTML-like labels, the other way to them, are missing from Graphviz's WebAssembly build. That build also crashes now and
then on labels that break or justify lines (0.1.4), so a line of text is a node whose place follows from its width.

Lengths are points (1/72 inch), x to the right and y downward from the top left corner. Lines lie under boxes; of two
boxes the later is on top.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

import graphviz
from hwmark.traces.letters import text_width, wrapped

__all__ = ["FONT", "GREY", "INK", "RED", "Align", "Canvas", "Ink", "text_height", "text_width", "wrapped"]

Align = Literal["left", "centre", "right"]

FONT = "Helvetica,Arial,sans-serif"
INK, GREY, RED = "#1f2933", "#9aa5b1", "#d62728"

_LINE_HEIGHT = 1.25


@dataclass(frozen=True)
class Ink:
    """How a line or a border looks: its colour, thickness in points and Graphviz style (solid, dashed, dotted)."""

    colour: str = INK
    thickness: float = 1.0
    style: str = "solid"


SOLID = Ink()


def text_height(lines: float, size: float) -> float:
    """How high so many lines of text are."""
    return lines * size * _LINE_HEIGHT


class Canvas:
    """A picture in the making; `source` is its DOT."""

    def __init__(self) -> None:
        self._dot = graphviz.Digraph(
            graph_attr={"layout": "nop", "outputorder": "edgesfirst", "splines": "line", "bgcolor": "white"},
            node_attr={"shape": "box", "fixedsize": "true", "margin": "0", "fontname": FONT},
            edge_attr={"fontname": FONT, "arrowsize": "0.8"},
        )
        self._nodes = 0

    def box(
        self,
        x: float,
        y: float,
        width: float,
        height: float,
        *,
        fill: str = "none",
        ink: Ink | None = None,
        rounded: bool = False,
    ) -> None:
        """A rectangle with its top left corner at (x, y); without ink it has no border."""
        styles = ["rounded"] * rounded + ["filled"] * (fill != "none") + ([ink.style] if ink else [])
        border = {"color": ink.colour, "penwidth": f"{ink.thickness:g}"} if ink else {"penwidth": "0"}
        self._node(x + width / 2, y + height / 2, width, height, style=",".join(styles), fillcolor=fill, **border)

    def text(
        self,
        x: float,
        y: float,
        width: float,
        text: str,
        *,
        size: float,
        colour: str = INK,
        bold: bool = False,
        align: Align = "left",
    ) -> float:
        """Text in the column from x on, its top at y, wrapped at `width`; returns its height."""
        lines = wrapped(text, width, size, bold=bold)
        font = "Helvetica-Bold" if bold else FONT
        for number, line in enumerate(lines):
            wide = text_width(line, size, bold=bold)
            middle = {"left": x + wide / 2, "centre": x + width / 2, "right": x + width - wide / 2}[align]
            place = (middle, y + text_height(number + 0.5, size), wide, text_height(1, size))
            self._node(*place, line, shape="plaintext", fontsize=f"{size:g}", fontcolor=colour, fontname=font)
        return text_height(len(lines), size)

    def line(
        self, start: tuple[float, float], end: tuple[float, float], *, ink: Ink = SOLID, arrow: bool = False
    ) -> None:
        """A straight line, with a head at its end if it is an arrow."""
        tail, head = (self._node(*point, 0.01, 0.01, style="invis", shape="point") for point in (start, end))
        self._dot.edge(
            tail, head,
            color=ink.colour, penwidth=f"{ink.thickness:g}", style=ink.style, arrowhead="normal" if arrow else "none",
        )  # fmt: skip

    def source(self) -> str:
        """The DOT source; the same picture gives the same text."""
        return str(self._dot.source)

    def _node(self, x: float, y: float, width: float, height: float, label: str = "", **attributes: str) -> str:
        self._nodes += 1
        name = f"n{self._nodes}"
        place = {"pos": f"{x:.1f},{-y:.1f}", "width": f"{width / 72:.4f}", "height": f"{height / 72:.4f}"}
        self._dot.node(name, graphviz.nohtml(_escaped(label)), **place, **{k: v for k, v in attributes.items() if v})
        return name


def _escaped(text: str) -> str:
    """Text that DOT shows as it is: no escapes of DOT, no character references, no control characters."""
    printable = re.sub(r"[\x00-\x1f\x7f\ud800-\udfff\ufffe\uffff]", "\ufffd", text)
    return printable.replace("\\", "\\\\").replace("&", "&amp;")
