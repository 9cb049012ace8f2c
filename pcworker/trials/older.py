"""What older configurations did not say yet, because there was one choice then.

Stored sweeps of older engines can be collected, queried and deleted, but not continued. A field
that was added without a new engine changes neither the ids of the trials before nor their plans.
"""

from collections.abc import Mapping
from typing import Any

_ADDED: Mapping[str, tuple[int, Any]] = {"sums": (2, "library")}
"""By field: the first engine whose configurations have it, and what the engines before did."""
_LEFT_OUT: Mapping[str, Any] = {"execution": "plain"}
"""By field: the value that is not written, because every engine did this before the field was
added."""


def not_said(engine_version: int) -> dict[str, Any]:
    """The fields that a configuration of this engine may lack, with what it then means."""
    added = {name: value for name, (first, value) in _ADDED.items() if engine_version < first}
    return {**added, **_LEFT_OUT}


def as_written(values: Mapping[str, Any], engine_version: int) -> dict[str, Any]:
    """The values of a configuration by field, as this engine has written them."""
    absent = not_said(engine_version)
    return {n: value for n, value in values.items() if n not in absent or value != absent[n]}


def as_read(written: Mapping[str, Any], engine_version: int) -> dict[str, Any]:
    """The values of a configuration that this engine has written, with the fields of today."""
    return {**not_said(engine_version), **written}
