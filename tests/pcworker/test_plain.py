"""Dataclasses as JSON. Oracle: the JSON written out by hand."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest

from pcworker.plain import as_json, from_json


@dataclass(frozen=True)
class Part:
    name: str
    size: int


@dataclass(frozen=True)
class Whole:
    parts: tuple[Part, ...]
    digests: Mapping[str, tuple[str, ...]]
    seconds: float
    dirty: bool | None
    rest: Mapping[str, Any]
    later: tuple[str, ...] = ()
    more: Mapping[str, Any] = field(default_factory=dict)


WHOLE = Whole((Part("a", 1), Part("b", 2)), {"x": ("1", "2")}, 0.1, None, {"n": [1, {"m": None}]})
BODY: dict[str, Any] = {
    "parts": [{"name": "a", "size": 1}, {"name": "b", "size": 2}],
    "digests": {"x": ["1", "2"]},
    "seconds": 0.1,
    "dirty": None,
    "rest": {"n": [1, {"m": None}]},
    "later": [],
    "more": {},
}


def test_a_dataclass_goes_through_json_and_comes_back() -> None:
    assert as_json(WHOLE) == BODY
    assert from_json(Whole, json.loads(json.dumps(BODY))) == WHOLE


def test_whole_numbers_may_stand_for_seconds() -> None:
    made = from_json(Whole, BODY | {"seconds": 3})
    assert type(made.seconds) is float


def test_missing_fields_have_their_defaults_and_unknown_keys_are_ignored() -> None:
    body = {name: value for name, value in BODY.items() if name not in ("later", "more")}
    assert from_json(Whole, body | {"of": "another version"}) == WHOLE


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"seconds": "many"}, "seconds is of type str, not "),
        ({"seconds": None}, "seconds is of type NoneType, not "),
        ({"seconds": True}, "seconds is of type bool, not "),
        ({"dirty": 1}, "dirty is of type int, not "),
        ({"digests": ["x"]}, "digests is of type list, not "),
        ({"digests": {"x": "12"}}, "digests is of type str, not "),
        ({"parts": {}}, "parts is of type dict, not "),
        ({"parts": ["a"]}, "parts is of type str, not "),
        ({"parts": [{"name": "a"}]}, "size is missing"),
        ({"parts": [{"name": "a", "size": 1.0}]}, "size is of type float, not "),
    ],
)
def test_what_does_not_fit_is_refused(change: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        from_json(Whole, BODY | change)
