"""`hwmark models`: what there is to check, and what each variant changed."""

from __future__ import annotations

import argparse
import inspect
import sys
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from hwmark.checkers.commands.answers import print_json
from hwmark.checkers.verdict import EXIT_HOLDS
from hwmark.spec.errors import SpecError

if TYPE_CHECKING:
    from hwmark.spec.catalogue import Family
    from hwmark.spec.model import Model

NAME_WIDTH, WIDTH_LEAST = 22, 60


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument(
        "--diff", metavar="VARIANT", help="show what this variant changed in the one that it is derived from"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object on standard output instead of text")


def run(arguments: argparse.Namespace) -> int:
    """Print the list, or one variant's changes."""
    from hwmark.spec.catalogue import families

    started = time.perf_counter()
    if arguments.diff is not None:
        model = _variant(arguments.diff)
        report, text = _changes(model), model.diff()
    else:
        report = {"models": [_report(family) for family in families().values()]}
        text = "\n\n".join("\n".join(_lines(family)) for family in families().values()) + "\n"
    _print(report | {"seconds": round(time.perf_counter() - started, 6)} if arguments.json else text)
    return EXIT_HOLDS


def _variant(name: str) -> Model:
    """The variant of that name in whatever family, or of the family named before a slash."""
    from hwmark.spec.catalogue import families, find

    if "/" in name:
        return find(*name.split("/", 1))
    variants = [model for family in families().values() for model in family.variants.values()]
    for model in variants:
        if model.variant == name:
            return model
    raise SpecError(f"there is no variant {name!r}; known are {', '.join(model.variant for model in variants)}")


def _changes(model: Model) -> dict[str, Any]:
    base = model.base.variant if model.base else None
    return {"model": model.family, "variant": model.variant, "base": base, "why": model.why, "diff": model.diff()}


def _report(family: Family) -> dict[str, Any]:
    from hwmark.spec.catalogue import spelled

    model = family.variant()
    return {
        "model": family.name,
        "what": family.what,
        "default": family.current,
        "bounds": [
            {"name": bound.name, "default": int(bound), "least": bound.least, "why": bound.why}
            for bound in model.bounds
        ],
        "invariants": [
            {"name": spelled(name), "standing": name in model.standing, "why": _sentence(model, name)}
            for name in model.invariants
        ],
        "variants": [
            {"variant": each.variant, "base": each.base.variant if each.base else None, "why": each.why}
            for each in family.variants.values()
        ],
    }


def _sentence(model: Model, name: str) -> str:
    """The first line of a function's docstring."""
    return (inspect.getdoc(model.functions[name]) or "").partition("\n")[0]


def _lines(family: Family) -> Iterator[str]:
    """A family as people read it."""
    report = _report(family)
    yield f"{report['model']}: {report['what']}"
    yield "  bounds"
    for bound in report["bounds"]:
        yield _entry(f"{bound['name']}={bound['default']}", bound["why"])
    yield "  invariants"
    for invariant in report["invariants"]:
        yield _entry(invariant["name"], invariant["why"] + ("" if invariant["standing"] else " (if asked for)"))
    yield "  variants"
    for each in report["variants"]:
        yield _entry(each["variant"], each["why"] + (" (default)" if each["variant"] == report["default"] else ""))


def _entry(name: str, what: str) -> str:
    """A name and, beside it or below, what it is, no wider than the terminal."""
    import shutil
    import textwrap

    indent = 4 + NAME_WIDTH
    width = max(WIDTH_LEAST, shutil.get_terminal_size((100, 24)).columns)
    start = f"    {name:<{NAME_WIDTH - 1}} " if len(name) < NAME_WIDTH else f"    {name}\n{' ' * indent}"
    return start + textwrap.fill(what, width - indent).replace("\n", "\n" + " " * indent)


def _print(what: dict[str, Any] | str) -> None:
    """Text as it is, a report as one JSON object, on standard output."""
    if isinstance(what, str):
        sys.stdout.write(what)
    else:
        print_json(what)
