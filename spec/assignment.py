"""Which names a function assigns, and where one is read that may have no value yet.

A path through the branches counts whether or not it can be taken, and a loop may turn zero times.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator

Names = frozenset[str]
COMPREHENSIONS = (ast.GeneratorExp, ast.ListComp, ast.SetComp, ast.DictComp)


def local_names(function: ast.FunctionDef) -> Names:
    """The parameters, and every name that the body assigns; the names of comprehensions are their own."""
    return frozenset(argument.arg for argument in function.args.args) | _stored(function.body)


def unassigned_reads(function: ast.FunctionDef) -> Iterator[ast.Name]:
    """The places where a local name is read that has no value on some path to there."""
    paths = _Paths(local_names(function))
    paths.block(function.body, frozenset(argument.arg for argument in function.args.args))
    yield from paths.found


def _stored(nodes: list[ast.stmt]) -> Names:
    names: set[str] = set()
    todo: list[ast.AST] = list(nodes)
    while todo:
        node = todo.pop()
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            names.add(node.id)
        todo.extend(() if isinstance(node, COMPREHENSIONS) else ast.iter_child_nodes(node))
    return frozenset(names)


class _Paths:
    """Follows the names that surely have a value through a body; None stands for a path that does not go on."""

    def __init__(self, local: Names) -> None:
        self.local = local
        self.found: list[ast.Name] = []

    def block(self, nodes: list[ast.stmt], known: Names | None) -> Names | None:
        """The names known after these statements."""
        for node in nodes:
            if known is None:
                return None
            known = self.statement(node, known)
        return known

    def statement(self, node: ast.stmt, known: Names) -> Names | None:
        """The names known after one statement."""
        match node:
            case ast.Return():
                self.read(node, known)
                return None
            case ast.If(test=test, body=then, orelse=other):
                self.read(test, known)
                return _joined(self.block(then, known), self.block(other, known))
            case ast.For(target=target, iter=iterated, body=body):
                self.read(iterated, known)
                self.block(body, known | _stored([ast.Expr(target)]))
                return known
            case ast.AugAssign(target=ast.Name(id=name) as target):
                self.read(ast.Name(name, ast.Load(), lineno=target.lineno, col_offset=target.col_offset), known)
        self.read(node, known)
        return known | _stored([node])

    def read(self, node: ast.AST, known: Names) -> None:
        """Note the names read in an expression that are not known."""
        if isinstance(node, ast.Name):
            if isinstance(node.ctx, ast.Load) and node.id in self.local - known:
                self.found.append(node)
        elif isinstance(node, COMPREHENSIONS):
            inside = known
            for each in node.generators:
                self.read(each.iter, inside)
                inside |= _stored([ast.Expr(each.target)])
                for test in each.ifs:
                    self.read(test, inside)
            for part in (node.key, node.value) if isinstance(node, ast.DictComp) else (node.elt,):
                self.read(part, inside)
        else:
            for child in ast.iter_child_nodes(node):
                self.read(child, known)


def _joined(one: Names | None, other: Names | None) -> Names | None:
    return other if one is None else one if other is None else one & other
