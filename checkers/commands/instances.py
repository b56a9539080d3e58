"""The arguments by which a command names a model, its variant, its bounds and its invariants."""

from __future__ import annotations

import argparse
import importlib.util
import sys
import traceback
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

from hwmark.spec.errors import SpecError

if TYPE_CHECKING:
    from hwmark.spec.instance import Instance
    from hwmark.spec.model import Model


def configure_instance(parser: argparse.ArgumentParser) -> None:
    """Declare MODEL, --variant and --bound."""
    parser.add_argument(
        "model", metavar="MODEL", help="a family of models (see `hwmark models`), or a Python file that defines one"
    )
    parser.add_argument("--variant", metavar="V", help="a published variant (default: the family's current one)")
    parser.add_argument(
        "--bound", action="append", default=[], metavar="NAME=INT", help="set a bound; the others keep their defaults"
    )


def instance_of(arguments: argparse.Namespace) -> Instance:
    """The instance that the arguments name; SpecError, naming what there is, where there is no such thing."""
    from hwmark.spec.catalogue import find

    seek = find_in_file if arguments.model.endswith(".py") else find
    return seek(arguments.model, arguments.variant).at(**dict(_bound(text) for text in arguments.bound))


def find_in_file(file: str, variant: str | None) -> Model:
    """The model of that variant in a Python file, by default the one that it defines last."""
    from hwmark.spec.model import Model

    models = [value for value in vars(_module(file)).values() if isinstance(value, Model)]
    found = [model for model in models if variant in (None, model.variant)]
    if not found:
        known = ", ".join(model.variant for model in models) or "none at all"
        raise SpecError(f"{file} defines no model {variant or ''}; it has {known}")
    return found[-1]


def _module(file: str) -> ModuleType:
    """A Python file, imported; whatever its code raises becomes one line."""
    if not Path(file).is_file():
        raise SpecError(f"{file}: there is no such file")
    spec = importlib.util.spec_from_file_location(Path(file).stem, file)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    try:
        spec.loader.exec_module(module)
    except SpecError:
        raise
    except Exception as error:
        line = traceback.extract_tb(error.__traceback__)[-1].lineno
        raise SpecError(f"{file}: cannot be imported: {type(error).__name__}: {error} (line {line})") from None
    return module


def _bound(text: str) -> tuple[str, int]:
    name, _, value = text.partition("=")
    try:
        return name, int(value)
    except ValueError:
        raise SpecError(f"--bound {text}: expected NAME=INT, for example replicas=3") from None
