"""The arguments by which a command names a model, its variant, its bounds and its invariants."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from hwmark.spec.errors import SpecError

if TYPE_CHECKING:
    from hwmark.spec.model import Instance


def configure_instance(parser: argparse.ArgumentParser) -> None:
    """Declare MODEL, --variant and --bound."""
    parser.add_argument("model", metavar="MODEL", help="a family of models (see `hwmark models`)")
    parser.add_argument("--variant", metavar="V", help="a published variant (default: the family's current one)")
    parser.add_argument(
        "--bound", action="append", default=[], metavar="NAME=INT", help="set a bound; the others keep their defaults"
    )


def instance_of(arguments: argparse.Namespace) -> Instance:
    """The instance that the arguments name; SpecError, naming what there is, where there is no such thing."""
    from hwmark.spec.catalogue import find

    return find(arguments.model, arguments.variant).at(**dict(_bound(text) for text in arguments.bound))


def _bound(text: str) -> tuple[str, int]:
    name, equals, value = text.partition("=")
    try:
        return name, int(value)
    except ValueError:
        raise SpecError(f"--bound {text}: expected NAME=INT, for example replicas=3") from None
