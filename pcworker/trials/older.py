"""What the configurations of older engines did not say yet, because there was one choice then.

Stored sweeps of older engines can be collected, queried and deleted, but not continued.
"""

from collections.abc import Mapping
from typing import Any

_ADDED: Mapping[str, tuple[int, Any]] = {"sums": (2, "library")}
"""By field: the first engine whose configurations have it, and what the engines before did."""


def not_said(engine_version: int) -> dict[str, Any]:
    """The fields that a configuration of this engine does not have, with what the engine did."""
    return {name: value for name, (first, value) in _ADDED.items() if engine_version < first}


def as_written(values: Mapping[str, Any], engine_version: int) -> dict[str, Any]:
    """The values of a configuration by field, as this engine has written them."""
    absent = not_said(engine_version)
    return {name: value for name, value in values.items() if name not in absent}


def as_read(written: Mapping[str, Any], engine_version: int) -> dict[str, Any]:
    """The values of a configuration that this engine has written, with the fields of today."""
    return {**not_said(engine_version), **written}
