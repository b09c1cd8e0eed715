"""Bodies with something wrong in them: payloads changed by seeded chance, along their structure or byte by byte."""

from __future__ import annotations

import copy
import json
import random
from collections.abc import Callable, Iterator
from typing import Any

Json = Any
_JUNK: tuple[Any, ...] = (
    *(None, True, -1, 0, 3.5, 10**30, 1e300, -999.0, float("nan"), float("inf")),
    *("", "NaN", "text", "12.5", "\ud800", "=1+1", "\x00", [], {}, [[]], {"a": {"b": [1]}}),
)


def shortened(document: Json, limit: int = 6) -> Json:
    """A document whose lists, and objects of objects or lists, have at most `limit` members."""
    if isinstance(document, list):
        return [shortened(member, limit) for member in document[:limit]]
    if not isinstance(document, dict):
        return document
    is_map = all(isinstance(member, dict | list) for member in document.values())
    names = list(document)[: limit if is_map else None]
    return {name: shortened(document[name], limit) for name in names}


def nudged_bodies(document: Json) -> Iterator[bytes]:
    """Bodies with one number of the document changed, each number to each of several that may break a rule."""
    for number, (container, key) in enumerate(_places(document)):
        value = container[key]
        if isinstance(value, bool) or not isinstance(value, int | float):
            continue
        shifted = [value + days * 86_400_000 for days in (-14, -3, 40)]
        for other in (-value, -1, 0, value * 1000, value + 1, value + 60_000, *shifted):
            changed = copy.deepcopy(document)
            place, name = _places(changed)[number]
            place[name] = other
            yield written(changed).encode()


class Repeated(dict[str, Any]):
    """An object written with one of its keys twice."""


def mutated_bodies(documents: list[Json], *, seed: int, count: int) -> Iterator[bytes]:
    """`count` bodies, each a document with one to three things wrong, or bytes that are no JSON any more."""
    chance = random.Random(seed)  # noqa: S311 - repeatable mutations, no secrets
    for _ in range(count):
        document = copy.deepcopy(chance.choice(documents))
        for _ in range(chance.randint(1, 3)):
            document = chance.choice(_ON_DOCUMENTS)(document, chance)
        body = written(document).encode("utf-8", "surrogatepass")
        if chance.random() < 0.15:
            body = chance.choice(_ON_BYTES)(body, chance)
        yield body


def written(value: Json) -> str:
    """JSON text of a document; a `Repeated` object has its first key once more at its end."""
    if isinstance(value, Repeated) and value:
        first = next(iter(value))
        members = [*value.items(), (first, value[first])]
        return "{" + ", ".join(f"{json.dumps(name)}: {written(member)}" for name, member in members) + "}"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{json.dumps(name)}: {written(member)}" for name, member in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(written(member) for member in value) + "]"
    return json.dumps(value)


def _places(document: Json) -> list[tuple[Any, Any]]:
    """Every member of every object and list of a document, as container and key."""
    found: list[tuple[Any, Any]] = []
    waiting = [document]
    while waiting:
        container = waiting.pop()
        keys = list(container) if isinstance(container, dict) else range(len(container))
        for key in keys:
            found.append((container, key))
            if isinstance(container[key], dict | list):
                waiting.append(container[key])
    return found


def _at_some_place(change: Callable[[Any, Any, random.Random], None]) -> Callable[[Json, random.Random], Json]:
    def changed(document: Json, chance: random.Random) -> Json:
        places = _places(document) if isinstance(document, dict | list) else []
        if places:
            change(*chance.choice(places), chance)
        return document

    return changed


def _drop(container: Any, key: Any, _: random.Random) -> None:
    del container[key]


def _retype(container: Any, key: Any, chance: random.Random) -> None:
    container[key] = copy.deepcopy(chance.choice(_JUNK))


def _rename(container: Any, key: Any, chance: random.Random) -> None:
    if isinstance(container, dict):
        container[chance.choice([key.upper(), f"{key}2", "", "`", "symbol"])] = container.pop(key)


def _add(container: Any, _: Any, chance: random.Random) -> None:
    if isinstance(container, dict):
        container[f"new{chance.randint(0, 99)}"] = copy.deepcopy(chance.choice(_JUNK))


def _wrap(container: Any, key: Any, chance: random.Random) -> None:
    container[key] = [container[key]] if chance.random() < 0.5 else {"value": container[key]}


def _repeat_key(container: Any, key: Any, _: random.Random) -> None:
    if isinstance(container[key], dict):
        container[key] = Repeated(container[key])


def _repeat_item(container: Any, key: Any, _: random.Random) -> None:
    if isinstance(container, list):
        container.insert(key, copy.deepcopy(container[key]))


def _nudge(container: Any, key: Any, chance: random.Random) -> None:
    """A number becomes another that may well break a rule, a text that of a neighbour."""
    value = container[key]
    near = container.values() if isinstance(container, dict) else container
    like = [each for each in near if type(each) is type(value)]
    if isinstance(value, int | float) and not isinstance(value, bool):
        others = [-value, 0, value * 1000, value + 1, value // 2, value - 86_400_000, value + 40 * 86_400_000]
        container[key] = chance.choice([*others, *like])
    elif isinstance(value, str):
        container[key] = chance.choice([*like, value.lower(), value[:-1], value.replace("2", "1"), f" {value}"])


def _huge(container: Any, key: Any, chance: random.Random) -> None:
    container[key] = chance.choice(
        ["x" * 20_000, 10**400, -(10**20), [container[key]] * 300, f"{container[key]}" * 500]
    )


def _nest(container: Any, key: Any, chance: random.Random) -> None:
    for _ in range(chance.choice([2, 60])):
        container[key] = {"deeper": container[key]} if chance.random() < 0.5 else [container[key]]


def _shuffle(container: Any, _: Any, chance: random.Random) -> None:
    if isinstance(container, list):
        chance.shuffle(container)
    else:
        members = list(container.items())
        chance.shuffle(members)
        container.clear()
        container.update(members)


_ON_DOCUMENTS: tuple[Callable[[Json, random.Random], Json], ...] = (
    *map(_at_some_place, (_drop, _retype, _retype, _rename, _add, _wrap, _repeat_key, _repeat_item, _shuffle)),
    *map(_at_some_place, (_nudge, _nudge, _huge, _nest)),
)

_ON_BYTES: tuple[Callable[[bytes, random.Random], bytes], ...] = (
    lambda body, chance: body[: chance.randrange(len(body) + 1)],
    lambda body, chance: body.replace(b"1", bytes([chance.randrange(256)]), chance.randint(1, 3)),
    lambda _, chance: chance.choice([b"", b" ", b"<html></html>", b"null", b"[]", b"{}", b'"x"', b"\xff\xfe{\x00"]),
    lambda body, _: b"\xef\xbb\xbf" + body,
    lambda body, _: body + body,
    lambda _, chance: b"[" * chance.choice([10, 200_000]),
    lambda _, chance: b'{"a":' * chance.choice([10, 200_000]),
)
