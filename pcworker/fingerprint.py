"""Computes the fingerprint of a value, which is the same in every process and on every machine."""

import hashlib
import json
import math
from typing import Any

Canonical = None | bool | int | float | str | list[Any] | dict[str, Any]


def canonical_json(value: Canonical) -> str:
    """Returns `value` as JSON with sorted keys and no white space.

    Raises TypeError unless `value` is made of None, bool, int, float, str, lists, and dicts with
    str keys. Raises ValueError for a NaN or an infinity, which JSON cannot write, and for -0.0,
    which equals 0.0 and would have another text.
    """
    _refuse(value)
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True)


def fingerprint(value: Canonical) -> str:
    """The SHA-256 of `canonical_json(value)`, as 64 hex digits."""
    return hashlib.sha256(canonical_json(value).encode()).hexdigest()


class Fingerprints:
    """The fingerprints of dicts that are equal in every item but one, whose value is a whole
    number. What they share is hashed only once."""

    def __init__(self, shared: dict[str, Canonical], name: str) -> None:
        """
        shared  the items that all of the dicts have
        name    the key of the number, which is not in `shared`
        """
        text = canonical_json({**shared, name: 0})
        before = canonical_json({key: item for key, item in shared.items() if key < name})
        start = f"{before[:-1]}{',' if len(before) > 2 else ''}{json.dumps(name)}:"
        self._before = hashlib.sha256(start.encode())
        self._after = text[len(start) + 1 :].encode()

    def of(self, number: int) -> str:
        """The fingerprint of the dict that has this number."""
        whole = self._before.copy()
        whole.update(b"%d" % number + self._after)
        return whole.hexdigest()


def _refuse(value: Canonical) -> None:
    if isinstance(value, dict):
        for key, item in value.items():
            if type(key) is not str:
                raise TypeError(f"the key {key!r} is a {type(key).__name__}; only str is canonical")
            _refuse(item)
    elif isinstance(value, list):
        for item in value:
            _refuse(item)
    elif type(value) is float:
        if not math.isfinite(value) or (value == 0.0 and math.copysign(1.0, value) < 0):
            raise ValueError(f"{value!r} has no canonical form; pass a finite number, or 0.0")
    elif value is not None and type(value) not in (bool, int, str):
        raise TypeError(
            f"{value!r} is a {type(value).__name__}; canonical are None, bool, int, float, str, "
            "list and dict"
        )
