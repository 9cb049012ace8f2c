"""JSON that carries its own fingerprint, so that a change of any byte is noticed."""

import json
from typing import Any

from pcworker.errors import InputError
from pcworker.fingerprint import fingerprint
from pcworker.plain import LONGEST, parsed

_SEAL = "sha256"


def seal(body: dict[str, Any]) -> bytes:
    """`body` as JSON, with a field `sha256` over all other fields. Its values are canonical: those
    that `pcworker.fingerprint.canonical_json` accepts.

    Raises InputError if it is so long that nobody could read it again.
    """
    data = json.dumps({**body, _SEAL: fingerprint(body)}, indent=1).encode()
    if len(data) > LONGEST:
        raise InputError(
            f"a record of {len(data)} bytes cannot be stored, only one of up to {LONGEST}; "
            "declare several smaller sweeps and collect them together"
        )
    return data


def unseal(data: bytes) -> dict[str, Any]:
    """The body that was sealed. Raises ValueError if `data` is not JSON, or is not what was
    sealed."""
    body = parsed(data)
    if not isinstance(body, dict):
        raise ValueError("not a JSON object")
    if body.pop(_SEAL, None) != fingerprint(body):
        raise ValueError("its content does not match its sha256")
    return body
