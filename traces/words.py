"""What a step did and what a value is, in words. Derived from the names in the trace, so every model has them.

An action's name reads actor, verb, object: `leader_expand_isr` with `leader` 0 and `follower` 1 is "leader r0 expands
isr (follower r1)". What became of the logs follows, since the name cannot tell which record was written or dropped.
"""

from __future__ import annotations

import json
import re

from hwmark.traces.changes import Json
from hwmark.traces.trace import Lanes, Step

NUMBERS = ("offset", "epoch", "version", "request", "record", "index", "count", "id")
"""Last words of arguments that are plain numbers, where the trace does not say which arguments name a lane."""

ACRONYMS = {"isr": "ISR", "elr": "ELR"}

_NONE_EPOCH = -1


def value_text(value: Json) -> str:
    """A value as people write it: `none`, `[{id: 0, epoch: 1}]`; two values with one text are the same value."""
    match value:
        case None:
            return "none"
        case str() if re.fullmatch(r"[^\W\d][\w-]*", value) and value not in ("none", "true", "false"):
            return value
        case list():
            return f"[{', '.join(map(value_text, value))}]"
        case dict():
            return f"{{{', '.join(f'{value_text(name)}: {value_text(inner)}' for name, inner in value.items())}}}"
        case _:
            return json.dumps(value)


def arguments_text(arguments: dict[str, Json]) -> str:
    """Arguments as in a call: `leader=0, follower=1`."""
    return ", ".join(f"{name}={value_text(value)}" for name, value in arguments.items())


def member(lanes: Lanes, index: Json) -> str:
    """The short name of a lane: r0 for replica 0, rm2 for resource manager 2; `none` where there is nobody."""
    if is_none(index):
        return "none"
    words = re.split(r"[\W_]+", lanes.name)
    return f"{''.join(word[0] for word in words if word)}{index}"


def members(lanes: Lanes, indexes: list[Json]) -> str:
    """A set of lanes: `{r0,r1}`."""
    return f"{{{','.join(member(lanes, index) for index in indexes)}}}"


def is_none(value: Json) -> bool:
    """Whether a leader or an epoch is absent: null, or the -1 of Kafka and of the published models."""
    return value is None or value == _NONE_EPOCH


def lane_arguments(arguments: dict[str, Json], lanes: Lanes) -> dict[str, int]:
    """The arguments that name a lane, in their order."""
    return {name: value for name, value in arguments.items() if type(value) is int and _is_lane(name, value, lanes)}


def _is_lane(name: str, value: int, lanes: Lanes) -> bool:
    if not 0 <= value < lanes.count:
        return False
    return name in lanes.arguments if lanes.arguments is not None else name.split("_")[-1] not in NUMBERS


def witness_text(witness: dict[str, Json], lanes: Lanes) -> str:
    """The parameters for which a property fails, with the names of lanes: `one rm1, other rm2`."""
    named = lane_arguments(witness, lanes)
    return ", ".join(_argument_text(name, value, lanes, name in named) for name, value in witness.items())


def record_text(record: dict[str, Json]) -> str:
    """A record in a sentence: "record 0 of epoch 1"."""
    words = [f"record {value_text(record['id'])}"] if "id" in record else ["a record"]
    return " ".join([*words, *([f"of epoch {value_text(record['epoch'])}"] if "epoch" in record else [])])


def action_words(step: Step, lanes: Lanes, written: str = "") -> str:
    """The action and its arguments as a sentence, with what was written: "leader r0 writes record 0 of epoch 0"."""
    named = lane_arguments(step.arguments, lanes)
    texts = {_word(name): _argument_text(name, value, lanes, name in named) for name, value in step.arguments.items()}
    actor, rest = _actor(step.action, texts, named, lanes)
    words = [actor, _third_person(rest[0]), *rest[1:]] if actor and rest else [actor, *rest]
    words = [texts.pop(word) if word in texts else word for word in words]
    aside = f"({', '.join(texts.values())})" if texts else ""
    return " ".join(ACRONYMS.get(word, word) for word in [*words, written, aside] if word)


def _actor(action: str, texts: dict[str, str], named: dict[str, int], lanes: Lanes) -> tuple[str, list[str]]:
    """Who acts, taken out of `texts`, and the words of the action that are left."""
    for name in sorted(texts, key=len, reverse=True):
        if action.startswith(f"{name}_"):
            return texts.pop(name), action.removeprefix(f"{name}_").split("_")
    kind = re.sub(r"\W+", "_", lanes.name)
    if action.startswith(f"{kind}_") and named:
        texts.pop(_word(next(iter(named))))
        return f"{lanes.name} {member(lanes, next(iter(named.values())))}", action.removeprefix(f"{kind}_").split("_")
    first, *rest = action.split("_")
    return (first, rest) if rest else ("", [first])


def _word(argument: str) -> str:
    """What an argument names: `client_id` is a client."""
    return argument.removesuffix("_id")


def _argument_text(name: str, value: Json, lanes: Lanes, is_lane: bool) -> str:
    text = member(lanes, value) if is_lane else value_text(value)
    words = _word(name).replace("_", " ")
    return text if is_lane and text.rstrip("0123456789") == words else f"{words} {text}"


def _third_person(verb: str) -> str:
    if re.search(r"(s|sh|ch|x|z|o)$", verb):
        return f"{verb}es"
    return re.sub(r"(?<=[^aeiou])y$", "ie", verb) + "s"
