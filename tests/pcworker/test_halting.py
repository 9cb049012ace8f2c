"""A shard that is halted inside an epoch goes on from there with the bits of one that was not.

The oracle is the undisturbed run: every weight, every metric, every twin's digest.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from mixed_shard import CASES, SEEDS, assert_same, few_digits, mixed

from pcworker.data import batches
from pcworker.data.batches import chunk_sizes
from pcworker.data.mnist import Digits
from pcworker.errors import HaltedError
from pcworker.training import engine as engine_module
from pcworker.training.checkpoint import Checkpoint, from_bytes, to_bytes
from pcworker.training.engine import Engine
from pcworker.trials.configuration import configuration
from pcworker.trials.trial import Trial

MAKER = "this machine"
UPDATES = 11
"""The weight updates of an epoch: 10 batches of 20 digits and one of 10."""


@pytest.fixture(scope="module")
def tiny_engine(digits: Digits, cpu: torch.device) -> Engine:
    return Engine(few_digits(digits), cpu)


@pytest.fixture(autouse=True)
def _weights_are_looked_at_often(monkeypatch: pytest.MonkeyPatch) -> None:
    """Weights are looked at after 1, 4, 7 and 10 updates, and not only after 1 and 101."""
    monkeypatch.setattr(batches, "CHUNK", 3)


@dataclass(frozen=True)
class Stop:
    """An attempt that was halted: its checkpoint, and what it said."""

    checkpoint: Checkpoint
    error: HaltedError


def halted_at(
    share: float, tiny_engine: Engine, trials: list[Trial], resume: Checkpoint | None
) -> Stop:
    """Trains until the share of the work that is done is as large as this."""
    saved: list[bytes] = []
    reached = [-1.0]
    with pytest.raises(HaltedError) as said:
        tiny_engine.run(
            trials,
            resume=resume,
            report=reached.append,
            checkpoint_every=100,
            save=lambda checkpoint: saved.append(to_bytes(checkpoint, MAKER)),
            halted=lambda: reached[-1] >= share,
        )
    [data] = saved
    checkpoint = from_bytes(data, MAKER, trials)
    assert checkpoint is not None
    return Stop(checkpoint, said.value)


MORE: dict[str, dict[str, Any]] = {
    "in stacks of torch's": {"sums": "library", "activation": "tanh", "alpha": 0.001},
    "with no smaller batch, for fused.c": {"sums": "library", "batch_size": 30},
}


SLOW = ("float64 with biases", "textbook tanh", "library")


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=[pytest.mark.long] * (name in SLOW)) for name in CASES | MORE],
)
def test_halted_inside_epochs_it_is_as_if_it_had_not_been(tiny_engine: Engine, name: str) -> None:
    trials = mixed(epochs=2, **(CASES | MORE)[name])
    undisturbed = tiny_engine.run(trials)
    if "fused.c" in name and undisturbed.kernel != "fused.c":
        pytest.skip("fused.c does not give the bits of torch's sums on this machine")
    places: list[tuple[int, int]] = []
    checkpoint: Checkpoint | None = None
    for share in (0.0, 0.3, 0.6):
        stop = halted_at(share, tiny_engine, trials, checkpoint)
        assert checkpoint is None or stop.checkpoint.seconds > checkpoint.seconds
        checkpoint = stop.checkpoint
        places.append((checkpoint.epoch, checkpoint.done))
    assert places == ([(0, 1), (0, 4), (1, 4)] if "fused.c" in name else [(0, 1), (0, 10), (1, 4)])
    assert_same(tiny_engine.run(trials, resume=checkpoint, max_width=5), undisturbed)


def test_a_stop_says_how_far_it_came(tiny_engine: Engine) -> None:
    trials = [Trial(configuration(rule="Z-IL", epochs=2), SEEDS[0])]
    stop = halted_at(0.6, tiny_engine, trials, None)
    assert stop.error.reached == stop.checkpoint.reached == 1 + 4 / UPDATES
    assert stop.error.seconds == stop.checkpoint.seconds > 0


def test_halted_from_the_start_every_attempt_gets_a_little_further(tiny_engine: Engine) -> None:
    trials = [Trial(configuration(rule="Z-IL", sigma=0.1, epochs=2), SEEDS[0])]
    undisturbed, checkpoint = tiny_engine.run(trials), None
    places = []
    for _ in range(9):
        checkpoint = halted_at(-1.0, tiny_engine, trials, checkpoint).checkpoint
        places.append((checkpoint.epoch, checkpoint.done))
    inside = [1, 4, 7, 10]
    assert places == [*((0, done) for done in inside), (1, 0), *((1, done) for done in inside)]
    last = tiny_engine.run(trials, resume=checkpoint, save=print, halted=lambda: True)
    assert_same(last, undisturbed)


def saved_in(tiny_engine: Engine, **options: Any) -> list[tuple[int, int]]:
    """Where an attempt at a small shard saves its checkpoints."""
    saved: list[tuple[int, int]] = []
    trials = [Trial(configuration(rule="Z-IL", epochs=2), SEEDS[0])]
    save: Callable[[Checkpoint], None] = lambda at: saved.append((at.epoch, at.done))  # noqa: E731
    assert_same(tiny_engine.run(trials, save=save, **options), tiny_engine.run(trials))
    return saved


def test_in_a_long_epoch_checkpoints_are_saved_too(
    tiny_engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert saved_in(tiny_engine) == [(1, 0)]
    monkeypatch.setattr(engine_module, "SAVE_AFTER_S", 0.0)
    places = [(epoch, done) for epoch in (0, 1) for done in (0, 1, 4, 7, 10)]
    assert saved_in(tiny_engine) == places[1:]


def test_without_checkpoints_it_goes_on_to_its_end(tiny_engine: Engine) -> None:
    """Nothing would be kept if it stopped."""
    assert saved_in(tiny_engine, checkpoint_every=0, halted=lambda: True) == []


@pytest.mark.parametrize(("samples", "batch"), [(210, 20), (200, 20), (7, 20), (61, 1)])
def test_what_is_left_of_an_epoch_is_its_end(samples: int, batch: int) -> None:
    """Oracle: the sizes of the batches of the whole epoch."""
    sizes = [size for updates, size in chunk_sizes(samples, batch) for _ in range(updates)]
    for done in range(len(sizes) + 1):
        left = chunk_sizes(samples, batch, done)
        assert [size for updates, size in left for _ in range(updates)] == sizes[done:]


@pytest.mark.parametrize("done", [1, 5, 10, 11])
def test_the_minibatches_that_are_left_have_the_bits_of_the_whole_epochs(
    tiny_engine: Engine, done: int
) -> None:
    """Widths are odd, so that the noise of an update may begin with the second of two normals."""
    config = configuration(rule="Z-IL", network="784-5-4-10", sigma=0.1, batch_size=19)
    chunks = tiny_engine.data.chunks
    whole = [each for chunk in chunks(config, 7, 2, True) for each in chunk.batches()]
    left = [each for chunk in chunks(config, 7, 2, True, done) for each in chunk.batches()]
    assert len(left) == len(whole) - done
    for ours, theirs in zip(left, whole[done:], strict=True):
        parts = zip((*ours[:2], *ours.noise), (*theirs[:2], *theirs.noise), strict=True)
        assert all(torch.equal(a, b) for a, b in parts)
