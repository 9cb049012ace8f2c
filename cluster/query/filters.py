"""Turns conditions such as `rule=IL`, `t=4|16` and `gamma<1` into SQL. Values become parameters."""

import re
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import pyarrow as pa

from cluster.query.shape import Shape
from pcworker.errors import InputError

_CONDITION = re.compile(r"\s*(\w+)\s*(!=|<=|>=|=|<|>)(.*)", re.DOTALL)
_NULL = ("", "null")
_BOOLEANS = {"true": True, "false": False}


class Condition(NamedTuple):
    """A condition of SQL on one column, and the values of its question marks."""

    column: str
    sql: str
    values: tuple[Any, ...]


def condition(text: str, shape: Shape) -> Condition:
    """The condition that a text states. Several values with | between them are alternatives, and
    `null` or nothing stands for a missing value. A row fulfils != if and only if it does not fulfil
    = with the same values.

    Raises InputError if the text is no condition, there is no such column, or a value is not one of
    the column's type.
    """
    if (found := _CONDITION.fullmatch(text)) is None:
        raise InputError(
            f"filter {text!r}: give a column, one of = != < <= > >=, and a value, as in rule=IL, "
            "t=4|16, gamma<1 or t=null"
        )
    column, sign, said = found[1], found[2], found[3].strip()
    shape.require(column)
    name = quoted(column)
    parts = [part.strip() for part in said.split("|")]
    if sign not in ("=", "!="):
        if len(parts) > 1 or said in _NULL:
            raise InputError(f"filter {text!r}: {sign} takes one value, and not null")
        return Condition(column, f"{name} {sign} ?", (_value(text, said, shape.types[column]),))
    values = [_value(text, part, shape.types[column]) for part in parts if part not in _NULL]
    options = [f"{name} IS NULL"] if len(values) < len(parts) else []
    if values:
        options.append(f"coalesce({name} IN ({', '.join('?' * len(values))}), false)")
    sql = " OR ".join(options)
    return Condition(column, f"({sql})" if sign == "=" else f"NOT ({sql})", tuple(values))


def from_values(where: Mapping[str, Any]) -> list[str]:
    """The conditions that these columns have these values, or one of the values of a list. Raises
    InputError for an empty list."""
    for column, value in where.items():
        if isinstance(value, (list, tuple)) and not value:
            raise InputError(f"{column} has an empty list of values; None asks for a missing value")
    return [f"{column}={_text(value)}" for column, value in where.items()]


def quoted(name: str) -> str:
    """A name as SQL writes it."""
    return '"' + name.replace('"', '""') + '"'


def literal(value: str | None) -> str:
    """A text as SQL writes it."""
    return "NULL" if value is None else "'" + value.replace("'", "''") + "'"


def _value(text: str, value: str, kind: pa.DataType) -> Any:
    """A value as one of the column's type."""
    read, what = _reader(text, kind)
    try:
        return read(value)
    except (ValueError, KeyError):
        raise InputError(f"filter {text!r}: {value!r} is not {what}, as this column has") from None


def _reader(text: str, kind: pa.DataType) -> tuple[Callable[[str], Any], str]:
    if pa.types.is_boolean(kind):
        return lambda value: _BOOLEANS[value.lower()], "true or false"
    if pa.types.is_integer(kind):
        return _number, "a number"
    if pa.types.is_floating(kind):
        return float, "a number"
    if pa.types.is_string(kind):
        return str, "a text"
    raise InputError(f"filter {text!r}: this column holds lists; ask for its values in SQL")


def _number(value: str) -> float:
    """A whole number keeps all its digits, because a seed may have more than a float can hold."""
    try:
        return int(value)
    except ValueError:
        return float(value)


def _text(value: Any) -> str:
    if isinstance(value, (list, tuple)):
        return "|".join(map(_text, value))
    return "null" if value is None else str(value)
