"""A checkpoint: everything of a shard that its training goes on from, as a value and as bytes.

The bytes are an .npz file. Its last 64 bytes, the zip file's comment, are the sha256 of all bytes
before them. Nothing is parsed unless it fits, so a damaged file is no checkpoint, wherever the
damage is.
"""

import hashlib
import io
import json
import math
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import get_args

import numpy as np

from pcworker.plain import from_json, parsed
from pcworker.training.results import EpochMetrics
from pcworker.trials.digests import Parameters
from pcworker.trials.trial import Trial

_SEAL_BYTES = 64
_SQUARES = "squares"
"""The name of the array of all networks' squares."""
_MOST_UPDATES = 2**62
"""More updates than anybody makes. Their number must fit into a column of tables."""


@dataclass(frozen=True)
class TrialProgress:
    """A trial after the finished epochs, as its `TrialResult` has it so far."""

    nonfinite_epoch: int | None
    updates: int
    epochs: tuple[EpochMetrics, ...]


@dataclass(frozen=True)
class Checkpoint:
    """A shard between two weight updates, most often between two epochs.

    Random numbers come from (seed, purpose, epoch) and their place, so no state of a generator has
    to be kept.
    """

    epoch: int
    """The number of finished epochs."""
    done: int
    """The number of weight updates that are made of the next epoch."""
    of: int
    """The number of weight updates of an epoch."""
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
    squares: Mapping[str, np.ndarray]
    """The same networks' `Network.squares`, float64 [B, n_0], which this epoch's energy needs."""
    twins: Mapping[str, tuple[str, ...]]
    """The digest of a twin's weights after each finished epoch, by the twin's trial id."""
    nonfinite_twins: Mapping[str, int]
    """The number of updates after which a twin was found to be not finite, by its trial id."""

    @property
    def reached(self) -> float:
        """How far the training is, in epochs."""
        return self.epoch + self.done / self.of


@dataclass(frozen=True)
class _Header:
    """Everything in a file but the arrays."""

    maker: str
    epoch: int
    done: int
    of: int
    updates: int
    seconds: float
    packing: str
    trials: Mapping[str, TrialProgress]
    networks: tuple[str, ...]
    """The ids of the trials in the order in which the arrays hold their parameters."""
    twins: Mapping[str, tuple[str, ...]]
    nonfinite_twins: Mapping[str, int]


def to_bytes(checkpoint: Checkpoint, maker: str) -> bytes:
    """The bytes of a checkpoint.

    maker  names everything on which the bits of the parameters may depend
    """
    header = _Header(
        maker=maker,
        epoch=checkpoint.epoch,
        done=checkpoint.done,
        of=checkpoint.of,
        updates=checkpoint.updates,
        seconds=checkpoint.seconds,
        packing=checkpoint.packing,
        trials=checkpoint.trials,
        networks=tuple(checkpoint.parameters),
        twins=checkpoint.twins,
        nonfinite_twins=checkpoint.nonfinite_twins,
    )
    networks = list(checkpoint.parameters.values())
    arrays = {
        _array_name(l, k): np.stack([network[l][k] for network in networks])
        for l, layer in enumerate(networks[0])
        for k in range(len(layer))
    }
    arrays[_SQUARES] = np.stack([checkpoint.squares[trial] for trial in header.networks])
    # JSON as Python reads and writes it keeps every float, infinities included.
    arrays["header"] = np.frombuffer(json.dumps(asdict(header)).encode(), np.uint8)
    file = io.BytesIO()
    np.savez(file, allow_pickle=False, **arrays)
    return sealed(file.getvalue())


def from_bytes(data: bytes, maker: str, trials: Sequence[Trial]) -> Checkpoint | None:
    """The checkpoint in these bytes; None unless they are whole, and `maker` made them of exactly
    these trials, so that their training can go on from there."""
    if _seal_of(data[:-_SEAL_BYTES]) != data[-_SEAL_BYTES:]:
        return None
    try:
        with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
            header = from_json(_Header, parsed(arrays["header"].tobytes()))
            if header.maker != maker or not _is_progress_of(trials, header):
                return None
            checkpoint = _checkpoint(header, arrays)
            return checkpoint if _has_shapes_of(trials, checkpoint) else None
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


def _is_progress_of(trials: Sequence[Trial], header: _Header) -> bool:
    """True if the header's values can be those of these trials between two updates."""
    from pcworker.kernels.kernel import Packing  # It imports torch, which only workers need.

    epoch, done, progress = header.epoch, header.done, header.trials
    twins = {trial.twin.trial_id for trial in trials}
    finite = {trial for trial, made in progress.items() if made.nonfinite_epoch is None}
    return (
        0 <= epoch < trials[0].configuration.epochs
        and 0 <= done < header.of
        and epoch + done > 0
        and done <= header.updates < _MOST_UPDATES
        and 0 <= header.seconds < math.inf
        and header.packing in get_args(Packing)
        and set(progress) == {trial.trial_id for trial in trials}
        and all(_is_at(epoch, made) for made in progress.values())
        and set(header.networks) == twins | finite
        and set(header.twins) == twins >= set(header.nonfinite_twins)
        and all(0 < found <= header.updates for found in header.nonfinite_twins.values())
        and all(len(digests) == epoch for digests in header.twins.values())
    )


def _is_at(epoch: int, made: TrialProgress) -> bool:
    """True if a trial can have come so far after `epoch`. It has metrics of its finite epochs."""
    measured = epoch if made.nonfinite_epoch is None else made.nonfinite_epoch - 1
    updates = 0 <= made.updates < _MOST_UPDATES
    return updates and 0 <= measured <= epoch and len(made.epochs) == measured


def _has_shapes_of(trials: Sequence[Trial], checkpoint: Checkpoint) -> bool:
    """True if all arrays are of the trials' type and shapes."""
    config = trials[0].configuration
    squares = ("float64", (config.batch_size, config.widths[0]))
    expected = [
        [(config.dtype, (n, m)), (config.dtype, (n,))][: 1 + config.bias]
        for n, m in pairwise(config.widths)
    ]
    return all(
        [[(str(p.dtype), p.shape) for p in layer] for layer in network] == expected
        for network in checkpoint.parameters.values()
    ) and all((str(s.dtype), s.shape) == squares for s in checkpoint.squares.values())


def _checkpoint(header: _Header, arrays: Mapping[str, np.ndarray]) -> Checkpoint:
    stacked: list[list[np.ndarray]] = []
    while _array_name(len(stacked), 0) in arrays:
        l = len(stacked)
        stacked.append([arrays[name] for k in (0, 1) if (name := _array_name(l, k)) in arrays])
    return Checkpoint(
        epoch=header.epoch,
        done=header.done,
        of=header.of,
        updates=header.updates,
        seconds=header.seconds,
        packing=header.packing,
        trials=header.trials,
        parameters={
            trial: [[parameter[place] for parameter in layer] for layer in stacked]
            for place, trial in enumerate(header.networks)
        },
        squares=dict(zip(header.networks, arrays[_SQUARES], strict=True)),
        twins=header.twins,
        nonfinite_twins=header.nonfinite_twins,
    )


def _array_name(l: int, k: int) -> str:
    """The name of the array of all networks' weights (k = 0) or biases (k = 1) of theta^{l+1}."""
    return f"layer{l + 1}.{('weight', 'bias')[k]}"
