"""A checkpoint: everything of a shard that is kept between two epochs, as a value and as bytes.

The bytes are an .npz file. Its last 64 bytes, the zip file's comment, are the sha256 of all bytes
before them. Nothing is parsed unless it fits, so a damaged file is no checkpoint, wherever the
damage is.
"""

import hashlib
import io
import json
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from pcworker.training.results import EpochMetrics
from pcworker.trials.digests import Parameters
from pcworker.trials.trial import Trial

_SEAL_BYTES = 64


@dataclass(frozen=True)
class TrialProgress:
    """A trial after the finished epochs, as its `TrialResult` has it so far."""

    nonfinite_epoch: int | None
    updates: int
    epochs: tuple[EpochMetrics, ...]


@dataclass(frozen=True)
class Checkpoint:
    """A shard between two epochs.

    Random numbers come from (seed, purpose, epoch), so no state of a generator has to be kept.
    """

    epoch: int
    """The number of finished epochs."""
    updates: int
    """The number of weight updates that every finite trial has made."""
    seconds: float
    """The time of training, including that before earlier interruptions."""
    packing: str
    """How the trials were run, see `ShardResult.packing`."""
    trials: Mapping[str, TrialProgress]
    """The progress of every trial, by trial id."""
    parameters: Mapping[str, Parameters]
    """The current parameters of every twin, and of every other finite trial, by trial id."""
    twins: Mapping[str, tuple[str, ...]]
    """The digest of a twin's weights after each finished epoch, by the twin's trial id."""


def to_bytes(checkpoint: Checkpoint, maker: str) -> bytes:
    """The bytes of a checkpoint.

    maker  names everything on which the bits of the parameters may depend
    """
    header = {
        "maker": maker,
        "epoch": checkpoint.epoch,
        "updates": checkpoint.updates,
        "seconds": checkpoint.seconds,
        "packing": checkpoint.packing,
        # JSON as Python reads and writes it keeps every float, infinities included
        "trials": {trial: asdict(progress) for trial, progress in checkpoint.trials.items()},
        "networks": list(checkpoint.parameters),
        "twins": dict(checkpoint.twins),
    }
    networks = list(checkpoint.parameters.values())
    arrays = {
        _array_name(l, k): np.stack([network[l][k] for network in networks])
        for l, layer in enumerate(networks[0])
        for k in range(len(layer))
    }
    arrays["header"] = np.frombuffer(json.dumps(header).encode(), np.uint8)
    file = io.BytesIO()
    np.savez(file, allow_pickle=False, **arrays)
    return sealed(file.getvalue())


def from_bytes(data: bytes, maker: str, trials: Sequence[Trial]) -> Checkpoint | None:
    """The checkpoint in these bytes; None unless they are whole, and `maker` made them of exactly
    these trials."""
    if _seal_of(data[:-_SEAL_BYTES]) != data[-_SEAL_BYTES:]:
        return None
    try:
        with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
            header = json.loads(arrays["header"].tobytes())
            ours = {trial.trial_id for trial in trials}
            if header["maker"] != maker or set(header["trials"]) != ours:
                return None
            return _checkpoint(header, arrays)
    except Exception:  # a foreign file may raise anything: training starts anew
        return None


def sealed(archive: bytes) -> bytes:
    """A zip file with the sha256 of its bytes as its comment."""
    file = io.BytesIO(archive)
    with zipfile.ZipFile(file, "a") as zipped:
        zipped.comment = bytes(_SEAL_BYTES)
    body = file.getvalue()[:-_SEAL_BYTES]
    return body + _seal_of(body)


def _seal_of(body: bytes) -> bytes:
    return hashlib.sha256(body).hexdigest().encode()


def _checkpoint(header: dict[str, Any], arrays: Mapping[str, np.ndarray]) -> Checkpoint:
    stacked: list[list[np.ndarray]] = []
    while _array_name(len(stacked), 0) in arrays:
        l = len(stacked)
        stacked.append([arrays[name] for k in (0, 1) if (name := _array_name(l, k)) in arrays])
    return Checkpoint(
        epoch=header["epoch"],
        updates=header["updates"],
        seconds=header["seconds"],
        packing=header["packing"],
        trials={
            trial: TrialProgress(
                nonfinite_epoch=progress["nonfinite_epoch"],
                updates=progress["updates"],
                epochs=tuple(EpochMetrics(**metrics) for metrics in progress["epochs"]),
            )
            for trial, progress in header["trials"].items()
        },
        parameters={
            trial: [[parameter[place] for parameter in layer] for layer in stacked]
            for place, trial in enumerate(header["networks"])
        },
        twins={twin: tuple(digests) for twin, digests in header["twins"].items()},
    )


def _array_name(l: int, k: int) -> str:
    """The name of the array of all networks' weights (k = 0) or biases (k = 1) of theta^{l+1}."""
    return f"layer{l + 1}.{('weight', 'bias')[k]}"
