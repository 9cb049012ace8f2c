"""Refuses to learn in a mode of torch in which a network would not learn exactly."""

import torch

from pcworker.errors import InputError


def require_plain_mode() -> None:
    """Raises InputError in inference mode, where autograd records nothing, and under autocast,
    which keeps the converted weights of the step before."""
    if torch.is_inference_mode_enabled() or any(map(torch.is_autocast_enabled, ("cpu", "cuda"))):
        raise InputError(
            "an update runs in torch.inference_mode or torch.autocast, where it would not be "
            "exact; call it outside of them"
        )
