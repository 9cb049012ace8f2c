"""Fingerprints. Oracle: hashlib over JSON text written out by hand."""

import hashlib
import math
import os
import subprocess
import sys
from itertools import combinations
from typing import Any

import numpy as np
import pytest

from pcworker.fingerprint import Fingerprints, canonical_json, fingerprint


def test_canonical_json_has_sorted_keys_no_white_space_and_only_ascii() -> None:
    value = {"b": [1, 1.0, True, None], "a": "é", "C": {"y": -1, "x": 1e-3}}
    text = r'{"C":{"x":0.001,"y":-1},"a":"\u00e9","b":[1,1.0,true,null]}'
    assert canonical_json(value) == text
    assert fingerprint(value) == hashlib.sha256(text.encode()).hexdigest()


def test_the_order_of_keys_does_not_matter_and_that_of_lists_does() -> None:
    assert fingerprint({"a": 1, "b": 2}) == fingerprint({"b": 2, "a": 1})
    assert fingerprint([1, 2]) != fingerprint([2, 1])


def test_values_that_python_or_a_reader_might_take_for_equal_have_different_fingerprints() -> None:
    values: list[Any] = [
        0, 0.0, False, None, "", "0", [], {}, [0], [[0]], [None], {"": 0},
        1, 1.0, True, "1", 10**22, 1e22, math.nextafter(1.0, 2.0), 5e-324,
    ]  # fmt: skip
    for one, other in combinations(values, 2):
        assert fingerprint(one) != fingerprint(other), (one, other)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, -0.0])
def test_floats_whose_text_could_stand_for_two_values_are_refused(value: float) -> None:
    for nested in (value, [value], {"a": [{"b": value}]}):
        with pytest.raises(ValueError, match="no canonical form"):
            fingerprint(nested)


@pytest.mark.parametrize(
    "value", [(1, 2), {1}, b"1", 1j, object, np.float64(1.0), np.int64(1), np.zeros(2)]
)
def test_other_types_are_refused_wherever_they_are(value: Any) -> None:
    for nested in (value, [value], {"a": [{"b": value}]}):
        with pytest.raises(TypeError):
            fingerprint(nested)


@pytest.mark.parametrize("key", [1, None, True, 1.0, ("a",)])
def test_keys_that_json_would_turn_into_text_are_refused(key: Any) -> None:
    with pytest.raises(TypeError, match="only str"):
        fingerprint({"deep": [{key: 1}]})


@pytest.mark.parametrize("name", ["A", "m", "seed", "zz", 'q"é'])
@pytest.mark.parametrize("shared", [{}, {"b": 1.5, "rule": None, "t": [1]}, {"n": {"seed": 3}}])
def test_what_dicts_share_is_hashed_once_and_the_fingerprints_are_the_same(
    shared: dict[str, Any], name: str
) -> None:
    """The key of the number comes before, between or after the others."""
    made = Fingerprints(shared, name)
    for number in (0, 7, -1, 2**63 - 1):
        assert made.of(number) == fingerprint({**shared, name: number})


@pytest.mark.parametrize("hash_seed", ["1", "2"])
def test_another_process_gives_the_same_fingerprint(hash_seed: str) -> None:
    value = {"network": "784-32-10", "gamma": 0.1, "t": None, "seeds": [1, 2]}
    program = f"from pcworker.fingerprint import fingerprint; print(fingerprint({value!r}))"
    run = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "PYTHONHASHSEED": hash_seed},
        capture_output=True,
        text=True,
        check=True,
    )
    assert run.stdout.strip() == fingerprint(value)
