"""A shard that is stopped between two epochs and resumed has the bits of one that never stopped.

The oracle is the undisturbed run: every weight, every metric, every twin's digest.
"""

import io
import json
import math
import pickle
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from builders import flipped, tiny, where
from mixed_shard import CASES, EPOCHS, SEEDS, assert_same, few_digits, mixed

from pcworker.data.mnist import Digits
from pcworker.kernels.compiler import DEBUG_BUILD
from pcworker.kernels.fixed.library import built
from pcworker.machine.provenance import result_fingerprint
from pcworker.store.checkpoints import Checkpoints
from pcworker.store.keys import Key, SweepKeys
from pcworker.store.local import LocalStore
from pcworker.store.tables import result_digest
from pcworker.training.checkpoint import Checkpoint, TrialProgress, from_bytes, sealed, to_bytes
from pcworker.training.engine import Engine
from pcworker.training.results import EpochMetrics, ShardResult
from pcworker.trials.configuration import configuration
from pcworker.trials.trial import Trial

MAKER = "this machine"
SHARD = "0001-00000001"


class Stopped(Exception):
    """The end of an attempt, at a checkpoint."""


@pytest.fixture(scope="module")
def tiny_engine(digits: Digits, cpu: torch.device) -> Engine:
    return Engine(few_digits(digits), cpu)


@dataclass(frozen=True)
class Case:
    """A shard and its undisturbed result. `stored` are the checkpoints after every epoch but the
    last, by an attempt that ended with them."""

    name: str
    trials: list[Trial]
    undisturbed: ShardResult
    stored: list[bytes]


@pytest.fixture(scope="module", params=CASES)
def case(request: pytest.FixtureRequest, tiny_engine: Engine) -> Case:
    trials = mixed(**CASES[request.param])
    stored = stopped(tiny_engine, trials, EPOCHS - 1)
    return Case(request.param, trials, tiny_engine.run(trials), stored)


def stop_after(epoch: int, stored: list[bytes]) -> Callable[[Checkpoint], None]:
    def save(checkpoint: Checkpoint) -> None:
        stored.append(to_bytes(checkpoint, MAKER))
        if checkpoint.epoch == epoch:
            raise Stopped

    return save


def stopped(tiny_engine: Engine, trials: list[Trial], epoch: int, **options: Any) -> list[bytes]:
    """The checkpoints that an attempt stores which ends after `epoch`."""
    stored: list[bytes] = []
    with pytest.raises(Stopped):
        tiny_engine.run(trials, save=stop_after(epoch, stored), **options)
    return stored


def read(data: bytes, trials: list[Trial]) -> Checkpoint:
    checkpoint = from_bytes(data, MAKER, trials)
    assert checkpoint is not None
    return checkpoint


def test_the_cases_are_what_they_are_meant_to_be(case: Case) -> None:
    name, undisturbed = case.name, case.undisturbed
    assert undisturbed.packing == ("alone" if name == "alone" else "stacked")
    first = {result.nonfinite_epoch for result in undisturbed.trials}
    assert 1 in first
    if name != "twins that explode":
        assert None in first
    if name in ("float32", "twins that explode", "library", "alone"):
        assert first & {2, 3}
    (twin,) = (r for r in undisturbed.trials if r.trial.configuration.rule == "BP")
    assert (twin.status == "nonfinite") == (name == "twins that explode")


@pytest.mark.parametrize(("epoch", "width"), [(1, None), (2, None), (2, 5), (3, None)])
def test_resumed_after_any_epoch_it_is_as_if_it_had_not_been_stopped(
    tiny_engine: Engine, case: Case, epoch: int, width: int | None
) -> None:
    checkpoint = read(case.stored[epoch - 1], case.trials)
    assert checkpoint.epoch == epoch
    resumed = tiny_engine.run(case.trials, resume=checkpoint, max_width=width)
    assert_same(resumed, case.undisturbed)


def test_resumed_twice_in_a_row_in_stacks_of_other_widths(tiny_engine: Engine, case: Case) -> None:
    trials = case.trials
    first = read(stopped(tiny_engine, trials, 1, max_width=4)[-1], trials)
    second = read(stopped(tiny_engine, trials, 3, max_width=7, resume=first)[-1], trials)
    assert second.epoch == 3 and second.seconds > first.seconds
    assert_same(tiny_engine.run(trials, resume=second), case.undisturbed)


def test_a_checkpoint_is_a_copy_that_training_leaves_alone(tiny_engine: Engine) -> None:
    trials = mixed()
    taken: list[Checkpoint] = []
    undisturbed = tiny_engine.run(trials, save=taken.append)
    for _ in range(2):
        assert_same(tiny_engine.run(trials, resume=taken[0]), undisturbed)


@pytest.mark.parametrize(("every", "epochs"), [(0, []), (1, [1, 2, 3, 4]), (2, [2, 4]), (5, [])])
def test_checkpoints_are_taken_after_every_kth_epoch_but_the_last(
    tiny_engine: Engine, every: int, epochs: list[int]
) -> None:
    taken: list[int] = []
    trials = [Trial(configuration(rule="Z-IL", epochs=5), SEEDS[0])]
    tiny_engine.run(trials, checkpoint_every=every, save=lambda found: taken.append(found.epoch))
    assert taken == epochs


def test_time_and_progress_go_on_where_they_were(tiny_engine: Engine) -> None:
    trials = [Trial(configuration(rule="Z-IL", epochs=4), SEEDS[0])]
    checkpoint = replace(read(stopped(tiny_engine, trials, 2)[-1], trials), seconds=1000.0)
    shares: list[float] = []
    assert (
        1000 < tiny_engine.run(trials, resume=checkpoint, report=shares.append).wall_seconds < 1100
    )
    assert shares == [0.5, 0.75]


@pytest.mark.parametrize("packing", ["alone", "irreproducible"])
def test_the_result_says_the_most_careful_packing_that_any_part_of_it_had(
    tiny_engine: Engine, packing: str
) -> None:
    trials = mixed(epochs=2)
    undisturbed = tiny_engine.run(trials)
    careful = replace(read(stopped(tiny_engine, trials, 1)[-1], trials), packing=packing)
    result = tiny_engine.run(trials, resume=careful)
    assert result.packing == packing
    assert result_digest(result) == result_digest(undisturbed)


def test_a_stacked_checkpoint_may_be_resumed_alone(tiny_engine: Engine) -> None:
    """With several threads trials are run one by one."""
    trials = mixed(epochs=2, sums="library")[2:4]
    checkpoint = read(stopped(tiny_engine, trials, 1)[-1], trials)
    assert checkpoint.packing == "stacked"
    torch.set_num_threads(2)  # for this test alone
    assert tiny_engine.run(trials, resume=checkpoint).packing == "alone"


# The tests below are about bytes and keys, on a checkpoint made up by hand.

TRIALS = [Trial(tiny(rule, epochs=20), seed) for rule in ("Z-IL", "BP") for seed in (1, 2)]
"""The BP trials are the others' twins."""


def made_up(epoch: int = 2, done: int = 0) -> Checkpoint:
    """A checkpoint with values that a careless format would change. Its second trial was not finite
    in epoch 1."""
    bits = np.array([0x7FC00001, 0xFFC00000, 0x7F800000, 0x80000000, 1, 2], np.uint32)
    weights = [[np.full((2, 2), 0.1, np.float32)], [bits.view(np.float32).reshape(2, 3)]]
    squares = np.full((TRIALS[0].configuration.batch_size, 2), 1 / 3)
    odd = EpochMetrics(0.1 + 0.2, None, float("inf"), -0.0, 5e-324, 1 / 3)
    kept = TrialProgress(None, 0, (odd,) * epoch)
    lost = TrialProgress(1, 7, ())
    ids = [trial.trial_id for trial in TRIALS]
    return Checkpoint(
        epoch=epoch,
        done=done,
        of=3000,
        updates=2**40,
        seconds=1 / 3,
        packing="stacked",
        trials=dict(zip(ids, (kept, lost, kept, kept), strict=True)),
        parameters={ids[0]: weights, ids[2]: weights, ids[3]: weights},
        squares={ids[0]: squares, ids[2]: -squares, ids[3]: squares},
        twins={ids[2]: ("a",) * epoch, ids[3]: ("b",) * epoch},
        nonfinite_twins={ids[3]: 2**35},
    )


def plain(checkpoint: Checkpoint | None) -> dict[str, Any]:
    """All values of a checkpoint in a form that is equal if and only if all bits are."""
    assert checkpoint is not None
    weights = {
        trial: [[(p.dtype.str, p.shape, p.tobytes()) for p in layer] for layer in layers]
        for trial, layers in checkpoint.parameters.items()
    }
    squares = {trial: (s.dtype.str, s.tolist()) for trial, s in checkpoint.squares.items()}
    changed = {"parameters": weights, "squares": squares, "trials": repr(checkpoint.trials)}
    return vars(checkpoint) | changed


def checkpoints(store: LocalStore, attempt: str = "mine", **changes: Any) -> Checkpoints:
    values = {"maker": MAKER, "trials": TRIALS} | changes
    return Checkpoints(store, SweepKeys("s"), SHARD, attempt, **values)


def key(attempt: str, epoch: int | str) -> str:
    return f"sweeps/s/shards/{SHARD}/attempts/{attempt}/checkpoint-{epoch}.npz"


def test_every_value_survives_bit_for_bit() -> None:
    assert plain(from_bytes(to_bytes(made_up(), MAKER), MAKER, TRIALS)) == plain(made_up())


def test_a_file_with_any_flipped_or_missing_byte_is_no_checkpoint() -> None:
    data = to_bytes(made_up(), MAKER)
    for place in range(len(data)):
        assert from_bytes(flipped(data, place), MAKER, TRIALS) is None
        assert from_bytes(data[:place], MAKER, TRIALS) is None
    assert from_bytes(data + b"\0", MAKER, TRIALS) is None


def resealed(change: Callable[[dict[str, Any], dict[str, np.ndarray]], object]) -> bytes:
    """The file of `made_up()`, of which `change` has changed the header or the arrays."""
    with np.load(io.BytesIO(to_bytes(made_up(), MAKER))) as arrays:
        values = dict(arrays)
    header = json.loads(values["header"].tobytes())
    change(header, values)
    values["header"] = np.frombuffer(json.dumps(header).encode(), np.uint8)
    file = io.BytesIO()
    np.savez(file, allow_pickle=False, **values)
    return sealed(file.getvalue())


FORGED: dict[str, Callable[[dict[str, Any], dict[str, np.ndarray]], object]] = {
    "an epoch that is none": lambda header, _: header.update(epoch=0),
    "the last epoch": lambda header, _: header.update(epoch=20),
    "no update": lambda header, _: header.update(epoch=0, done=0),
    "all updates of an epoch": lambda header, _: header.update(done=3000),
    "an epoch of no updates": lambda header, _: header.update(of=0),
    "an epoch in words": lambda header, _: header.update(epoch="2"),
    "seconds that are no number": lambda header, _: header.update(seconds=math.nan),
    "a packing that is none": lambda header, _: header.update(packing="loose"),
    "a trial with too few epochs": lambda header, _: progress(header)["epochs"].pop(),
    "a metric in words": lambda header, _: progress(header)["epochs"][0].update(test_error="low"),
    "fewer networks": lambda header, _: header["networks"].pop(),
    "a twin without a digest": lambda header, _: header["twins"].update({TRIALS[2].trial_id: []}),
    "a twin of another seed": lambda header, _: header.update(nonfinite_twins={"0" * 16: 1}),
    "a twin that is lost later": lambda header, _: header["nonfinite_twins"].update(
        {TRIALS[3].trial_id: 2**41}
    ),
    "weights of another shape": lambda _, arrays: arrays.update(
        {"layer2.weight": arrays["layer2.weight"].swapaxes(1, 2)}
    ),
    "weights of another type": lambda _, arrays: arrays.update(
        {"layer2.weight": arrays["layer2.weight"].astype(np.float64)}
    ),
    "squares of another shape": lambda _, arrays: arrays.update(
        {"squares": arrays["squares"].swapaxes(1, 2)}
    ),
    "squares of fewer networks": lambda _, arrays: arrays.update(
        {"squares": arrays["squares"][1:]}
    ),
    "no squares": lambda _, arrays: arrays.pop("squares"),
    "a bias": lambda _, arrays: arrays.update({"layer1.bias": np.zeros((3, 2), np.float32)}),
    "no layer": lambda _, arrays: arrays.pop("layer1.weight"),
}


def progress(header: dict[str, Any]) -> dict[str, Any]:
    """The progress of the first trial in a header."""
    made: dict[str, Any] = header["trials"][TRIALS[0].trial_id]
    return made


def test_what_is_sealed_again_without_a_change_is_the_same_checkpoint() -> None:
    again = from_bytes(resealed(lambda header, arrays: None), MAKER, TRIALS)
    assert plain(again) == plain(made_up())


@pytest.mark.parametrize("change", FORGED.values(), ids=FORGED.keys())
def test_a_checkpoint_from_which_training_cannot_go_on_is_not_used(
    change: Callable[[dict[str, Any], dict[str, np.ndarray]], object],
) -> None:
    """Its sha256 fits. Whoever can write into the store can compute that."""
    assert from_bytes(resealed(change), MAKER, TRIALS) is None


def test_another_makers_or_other_trials_checkpoint_is_not_used(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    checkpoints(store).save(made_up())
    assert checkpoints(store).latest() is not None
    assert checkpoints(store, trials=TRIALS[::-1]).latest() is not None
    for other in (
        {"maker": "another"},
        {"trials": TRIALS[:-1]},
        {"trials": [*TRIALS[:-1], other_trial()]},
    ):
        assert checkpoints(store, **other).latest() is None


def other_trial() -> Trial:
    return Trial(tiny("BP", epochs=20), 3)


class Planted:
    """A pickle that makes a file where it is read."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Callable[[Path], None], tuple[Path]]:
        return Path.touch, (self.path,)


@pytest.mark.parametrize("place", ["header", "layer1.weight"])
def test_nothing_is_unpickled(tmp_path: Path, place: str) -> None:
    """The files are sealed as ours are: the sha256 is no protection from whoever can compute it."""
    planted = Planted(tmp_path / "unpickled")
    with np.load(io.BytesIO(to_bytes(made_up(), MAKER))) as arrays:
        values = dict(arrays)
    file = io.BytesIO()
    np.savez(file, **(values | {place: np.array([planted], dtype=object)}))
    data = sealed(file.getvalue())
    assert from_bytes(data, MAKER, TRIALS) is None
    assert not planted.path.exists()
    with np.load(io.BytesIO(data), allow_pickle=True) as arrays:
        assert arrays[place].size == 1
    assert planted.path.exists(), "the plant does nothing: the test shows nothing"


def test_a_file_of_another_kind_is_no_checkpoint(tmp_path: Path) -> None:
    planted, empty, array = Planted(tmp_path / "unpickled"), io.BytesIO(), io.BytesIO()
    np.savez(empty)
    np.save(array, np.zeros(3))
    for data in (b"", b"PK", pickle.dumps(planted), empty.getvalue(), array.getvalue()):
        assert from_bytes(data, MAKER, TRIALS) is None
    assert from_bytes(sealed(empty.getvalue()), MAKER, TRIALS) is None
    assert not planted.path.exists()


def test_the_latest_that_can_be_used_is_of_any_attempt(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    assert checkpoints(store).latest() is None
    for attempt, *reached in (
        ("a", 2, 0),
        ("b", 10, 0),
        ("c", 9, 101),
        ("d", 9, 1000),
        ("e", 9, 0),
    ):
        checkpoints(store, attempt).save(made_up(*reached))
    checkpoints(store, "f", maker="another").save(made_up(12))
    store.put(key("g", 11), b"not a checkpoint")
    store.put(key("g", 11).replace("checkpoint-11.npz", "trials.parquet"), b"rows")
    assert plain(checkpoints(store).latest()) == plain(made_up(10))
    store.delete(key("b", 10))
    assert plain(checkpoints(store).latest()) == plain(made_up(9, 1000))


class Vanishing(LocalStore):
    """Another attempt deletes its checkpoint between our listing and our reading."""

    def list(self, prefix: str) -> list[str]:
        keys = super().list(prefix)
        self.delete(key("other", 8))
        return keys


def test_a_checkpoint_that_vanishes_before_it_is_read_is_passed_over(tmp_path: Path) -> None:
    checkpoints(LocalStore(tmp_path), "other").save(made_up(8))
    checkpoints(LocalStore(tmp_path), "third").save(made_up(5))
    assert plain(checkpoints(Vanishing(tmp_path)).latest()) == plain(made_up(5))
    assert checkpoints(Vanishing(tmp_path / "empty")).latest() is None


def test_save_keeps_an_attempts_newest_and_clear_keeps_none(tmp_path: Path) -> None:
    store, keys = LocalStore(tmp_path), SweepKeys("s")
    mine, other = checkpoints(store), checkpoints(store, "other")
    elsewhere = Checkpoints(store, keys, "0002-00000002", "mine", MAKER, TRIALS)
    table = keys.data(SHARD, "mine", "trials")
    store.put(table, b"rows")
    elsewhere.save(made_up(1))
    other.save(made_up(1))
    for reached in ((1, 0), (2, 0), (2, 0), (2, 101), (3, 0)):
        mine.save(made_up(*reached))
    kept = keys.checkpoint("0002-00000002", "mine", 1)
    assert store.list("sweeps/") == sorted([key("mine", 3), key("other", 1), table, kept])
    mine.clear()
    assert store.list("sweeps/") == sorted([table, kept])
    mine.clear()


def test_a_checkpoints_key_tells_its_shard_and_epoch() -> None:
    keys = SweepKeys("s")
    assert keys.checkpoint(SHARD, "mine", 12) == key("mine", 12)
    assert keys.parse(key("mine", 12)) == Key("checkpoint", SHARD, "mine", epoch="12")
    assert keys.checkpoint(SHARD, "mine", 0, 301) == key("mine", "0-301")
    assert keys.parse(key("mine", "0-301")) == Key("checkpoint", SHARD, "mine", epoch="0-301")
    others = [
        keys.plan,
        keys.commit(SHARD),
        keys.attempt(SHARD, "mine"),
        keys.data(SHARD, "mine", "trials"),
        keys.data(SHARD, "checkpoint-1.npz", "trials"),
        SweepKeys("t").checkpoint(SHARD, "mine", 1),
        key("mine", 1) + ".part",
        key("mine", -1),
        key("mine", "1-"),
        key("mine", "1-2-3"),
    ]
    for foreign in others:
        of = keys.parse(foreign)
        assert of is None or of.kind != "checkpoint"


def test_in_fixed_sums_another_build_goes_on_from_a_checkpoint(
    tiny_engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Oracle: the undisturbed run. The other build is not optimised, as for a debugger."""
    trials = mixed(epochs=3)
    undisturbed = tiny_engine.run(trials)
    checkpoint = read(stopped(tiny_engine, trials, 1)[-1], trials)
    monkeypatch.setenv(DEBUG_BUILD, "1")
    built.cache_clear()
    try:
        resumed = tiny_engine.run(trials, resume=checkpoint)
    finally:
        built.cache_clear()
    assert_same(resumed, undisturbed)


def test_a_checkpoints_maker_is_the_machine_unless_the_sums_are_fixed() -> None:
    here, there = where(), where(device="cuda: another", versions={"torch": "9.9"})
    assert result_fingerprint(here, "fixed") == result_fingerprint(there, "fixed")
    assert result_fingerprint(here, "library") != result_fingerprint(there, "library")
    edited = where(code_sha256="d" * 64)
    for sums in ("fixed", "library"):
        assert result_fingerprint(here, sums) != result_fingerprint(edited, sums)
