"""Records that somebody else has put into a shared store, as hypothesis makes them up.

A record is a real one, of which some values are replaced, removed or added, and its sha256 fits
again. Or it is just bytes.
"""

import json
from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

from hypothesis import strategies as st

from pcworker.store.sealed import seal

EVIL = (
    *("", "../x", "..", "/", "a/b", "\0", "\ud800", "\udcff", "x" * 3000, "1", "nan", "-0", "é"),
    *("\x1b[2J\x1b]0;title\x07", "\r\x9b31m\u202e", "two\nlines", "BP", "done", "failed"),
)
NUMBERS = (
    *(0, 1, -1, 2**31, 2**63 - 1, 2**63, -(2**70), 10**400),
    *(0.5, -0.0, 1e300, -1e300, 5e-324, float("inf"), float("-inf"), float("nan")),
)
PLAIN = (
    st.none()
    | st.booleans()
    | st.sampled_from(NUMBERS)
    | st.integers()
    | st.floats()
    | st.sampled_from(EVIL)
    | st.text(max_size=20)
)
VALUES = st.recursive(
    PLAIN,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=6,
)
NESTED = [
    opening * depth + b"0" + closing * depth
    for depth in (30, 40, 900, 100_000)
    for opening, closing in ((b"[", b"]"), (b'{"a":', b"}"))
]
"""JSON that is nested as deeply as we allow, as Python allows, and more deeply."""
BYTES = st.binary(max_size=100) | st.sampled_from([*NESTED, b"", b"{", b"\xff\xfe", b"NaN", b"[]"])


@dataclass(frozen=True)
class _Place:
    """A value inside a body: it is `inside[name]`."""

    inside: Any
    name: Any


def _places(body: Any) -> list[_Place]:
    names = (
        list(body)
        if isinstance(body, dict)
        else list(range(len(body)))
        if isinstance(body, list)
        else []
    )
    here = [_Place(body, name) for name in names]
    return [*here, *(inner for name in names for inner in _places(body[name]))]


@st.composite
def changed(draw: Callable[..., Any], body: dict[str, Any]) -> dict[str, Any]:
    """`body` with one to three changes anywhere in it."""
    made = deepcopy(body)
    for _ in range(draw(st.integers(1, 3))):
        places = _places(made)
        if not places:
            break
        place = draw(st.sampled_from(places))
        act = draw(st.sampled_from(["replace", "replace", "replace", "remove", "add"]))
        if act == "remove":
            del place.inside[place.name]
        elif act == "add" and isinstance(place.inside, dict):
            place.inside[draw(st.text(max_size=5))] = draw(VALUES)
        else:
            place.inside[place.name] = draw(VALUES)
    return made


def sealed_again(body: dict[str, Any]) -> bytes:
    """The record with a sha256 that fits, if there can be one."""
    try:
        return seal(body)
    except (TypeError, ValueError):
        return json.dumps(body).encode()
