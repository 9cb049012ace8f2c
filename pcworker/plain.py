"""Dataclasses as the plain values that JSON knows, and back. The types of values are checked."""

import json
from collections.abc import Mapping
from dataclasses import MISSING, asdict, fields, is_dataclass
from functools import cache
from types import NoneType, UnionType
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

from pcworker.text import as_unicode

LONGEST = 2**28
"""A record of more bytes is not parsed. The plan of half a million trials is shorter."""
_DEEPEST = 32
"""Values that are nested more deeply are refused: the functions that go through them recur."""
_WHOLE = range(-(2**63), 2**63)
"""The whole numbers that a table can hold."""

_T = TypeVar("_T")


def as_json(value: Any) -> dict[str, Any]:
    """A dataclass as the dict that JSON would give back: its tuples are lists."""
    body: dict[str, Any] = json.loads(json.dumps(asdict(value)))
    return body


def parsed(data: bytes) -> Any:
    """The value that JSON holds. Raises ValueError if `data` is not JSON, is longer than
    LONGEST or is nested too deeply."""
    if len(data) > LONGEST:
        raise ValueError(f"it has {len(data)} bytes, more than {LONGEST}")
    try:
        value = json.loads(data)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    level = [value]
    for _ in range(_DEEPEST):
        level = [item for each in level for item in _inside(each)]
    if level:
        raise ValueError(f"it is nested more deeply than {_DEEPEST} values")
    return value


def from_json(kind: type[_T], body: Any) -> _T:
    """The dataclass of type `kind` that `as_json` turned into `body`. Keys that it does not know
    are ignored: a later version may have added them. Halves of surrogate pairs are escaped.

    Raises ValueError if a field has no value, one of another type than the field's, or a whole
    number beyond 64 bits.
    """
    made: _T = _of_kind(kind, body, kind.__name__)
    return made


def _inside(value: Any) -> list[Any]:
    """The values of a dict or a list. Nothing is inside other values."""
    if isinstance(value, dict):
        return list(value.values())
    return value if isinstance(value, list) else []


def _of_kind(kind: Any, value: Any, name: str) -> Any:
    """`value`, from JSON, as a value of the type `kind`; `name` says in errors which one it is."""
    origin, arguments = get_origin(kind), get_args(kind)
    if kind is Any:
        return value
    if origin is UnionType:
        [inner] = (part for part in arguments if part is not NoneType)
        return None if value is None else _of_kind(inner, value, name)
    if origin is tuple and type(value) is list:
        return tuple(_of_kind(arguments[0], item, name) for item in value)
    if origin is Mapping and type(value) is dict:
        return {as_unicode(key): _of_kind(arguments[1], value[key], name) for key in value}
    if is_dataclass(kind) and type(value) is dict:
        return _dataclass_of(kind, value)
    if type(value) is int and value not in _WHOLE:
        raise ValueError(f"{name} is a whole number beyond 64 bits")
    if kind is float and type(value) is int:
        return float(value)
    if type(value) is not kind:
        wanted = getattr(kind, "__name__", str(kind))
        raise ValueError(f"{name} is of type {type(value).__name__}, not {wanted}")
    return as_unicode(value) if kind is str else value


@cache
def _types(kind: Any) -> dict[str, Any]:
    """The types of a dataclass's fields."""
    return get_type_hints(kind)


def _dataclass_of(kind: Any, body: dict[str, Any]) -> Any:
    types = _types(kind)
    given = {}
    for field in fields(kind):
        if field.name in body:
            given[field.name] = _of_kind(types[field.name], body[field.name], field.name)
        elif field.default is MISSING and field.default_factory is MISSING:
            raise ValueError(f"{field.name} is missing")
    return kind(**given)
