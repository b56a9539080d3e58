"""The reference implementation is to be read: it has a limit."""

from __future__ import annotations

import ast
from pathlib import Path

LINES_MAX = 2_500
REFIMPL = Path(__file__).parent.parent / "refimpl"


def test_the_reference_implementation_stays_short() -> None:
    modules = list(REFIMPL.glob("*.py"))
    assert len(modules) > 10
    assert sum(code_lines(module.read_text()) for module in modules) < LINES_MAX


def test_docstrings_comments_and_blank_lines_do_not_count() -> None:
    text = (
        '"""What it is.\n\nMore."""\n\n# why\nx = 1  # what\n\n\ndef f():\n    """Does."""\n    return """a\n    b"""\n'
    )
    assert code_lines(text) == 4


def code_lines(text: str) -> int:
    """The lines of a module that are neither blank, nor comments, nor part of a docstring."""
    documented: set[int] = set()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            documented |= {*range(node.lineno, (node.end_lineno or node.lineno) + 1)}
    lines = [line.strip() for line in text.splitlines()]
    return sum(bool(line) and line[0] != "#" and i not in documented for i, line in enumerate(lines, 1))
