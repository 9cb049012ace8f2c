"""Dataclasses as the plain values that JSON knows, and back."""

import json
from collections.abc import Mapping
from dataclasses import MISSING, asdict, fields, is_dataclass
from types import NoneType, UnionType
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

_T = TypeVar("_T")


def as_json(value: Any) -> dict[str, Any]:
    """A dataclass as the dict that JSON would give back: its tuples are lists."""
    body: dict[str, Any] = json.loads(json.dumps(asdict(value)))
    return body


def from_json(kind: type[_T], body: Any) -> _T:
    """The dataclass of type `kind` that `as_json` turned into `body`. Keys that it does not know
    are ignored: a later version may have added them.

    Raises ValueError if a field has no value, or one of another type than the field's.
    """
    made: _T = _of_kind(kind, body, kind.__name__)
    return made


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
        return {key: _of_kind(arguments[1], item, name) for key, item in value.items()}
    if is_dataclass(kind) and type(value) is dict:
        return _dataclass_of(kind, value)
    if kind is float and type(value) is int:
        return float(value)
    if type(value) is not kind:
        wanted = getattr(kind, "__name__", str(kind))
        raise ValueError(f"{name} is of type {type(value).__name__}, not {wanted}")
    return value


def _dataclass_of(kind: Any, body: dict[str, Any]) -> Any:
    types = get_type_hints(kind)
    given = {}
    for field in fields(kind):
        if field.name in body:
            given[field.name] = _of_kind(types[field.name], body[field.name], field.name)
        elif field.default is MISSING and field.default_factory is MISSING:
            raise ValueError(f"{field.name} is missing")
    return kind(**given)
