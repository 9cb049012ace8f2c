"""JSON that carries its own fingerprint: a changed byte is noticed, wherever it is."""

import json
from typing import Any

from pcworker.fingerprint import fingerprint

_SEAL = "sha256"


def seal(body: dict[str, Any]) -> bytes:
    """`body`, canonical values only, as JSON with a field `sha256` over all others."""
    return json.dumps({**body, _SEAL: fingerprint(body)}, indent=1).encode()


def unseal(data: bytes) -> dict[str, Any]:
    """What was sealed; ValueError if it is not JSON or not what was sealed."""
    body = json.loads(data)
    if not isinstance(body, dict):
        raise ValueError("not a JSON object")
    if body.pop(_SEAL, None) != fingerprint(body):
        raise ValueError("its content does not match its sha256")
    return body
