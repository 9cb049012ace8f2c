"""The commit protocol: one truth per shard, and damage is named."""

import json
from collections.abc import Callable
from dataclasses import fields, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from builders import flipped, flipped_digits, rewrite, shard_result, tiny, where

from pcworker.errors import DamagedError
from pcworker.plain import as_json
from pcworker.store.commit import (
    Commit,
    FinishedAttempt,
    commit_shard,
    read_attempt,
    read_commit,
    read_file,
)
from pcworker.store.keys import SweepKeys
from pcworker.store.local import LocalStore
from pcworker.store.sealed import seal, unseal
from pcworker.store.tables import SHARD_TABLES, result_digest
from pcworker.training.results import EpochMetrics, ShardResult, TrialResult
from pcworker.trials.trial import Trial

KEYS = SweepKeys("tiny")
SHARD = "0000-aaaaaaaa"
TABLES = ("trials", "epochs", "weights")
TRIALS = (
    Trial(tiny("BP", epochs=2), 1),
    Trial(tiny("Z-IL", epochs=2), 1),
    Trial(tiny("IL", t=1, gamma=10.0, epochs=2), 1),
    Trial(tiny("IL", t=0, sigma=0.1, epochs=2), 1),
)


def drift(trial: Trial) -> float | None:
    """gamma = 10 explodes."""
    if trial.configuration.rule != "IL":
        return 0.0
    return None if trial.configuration.gamma == 10 else 0.125


def made() -> ShardResult:
    return shard_result(TRIALS, drift)


@pytest.fixture
def store(tmp_path: Path) -> LocalStore:
    return LocalStore(tmp_path)


def commit(store: LocalStore, result: ShardResult, attempt: str = "first", **host: Any) -> str:
    return commit_shard(store, KEYS, SHARD, attempt, result, SHARD_TABLES, where(**host))


def committed(store: LocalStore) -> Commit:
    found = read_commit(store, KEYS, SHARD)
    assert found is not None
    return found


def everything(store: LocalStore) -> dict[str, bytes | None]:
    return {key: store.get(key) for key in store.list("sweeps/")}


def with_trial(result: ShardResult, place: int, change: Callable[[TrialResult], None]) -> str:
    """The digest after a change of one trial."""
    change(result.trials[place])
    return result_digest(result)


# Committing


def test_before_a_commit_there_is_none(store: LocalStore) -> None:
    assert read_commit(store, KEYS, SHARD) is None


def test_a_commit_says_what_was_committed(store: LocalStore) -> None:
    assert commit(store, made()) == "committed"
    found = committed(store)
    assert found.shard_id == SHARD
    assert found.attempt_id == "first"
    assert found.trial_ids == tuple(trial.trial_id for trial in TRIALS)
    assert found.result_digest == result_digest(made())
    assert found.twins == {twin: tuple(digests) for twin, digests in made().twins.items()}
    assert found.packing == "stacked"
    assert found.updates == 100 + 100 + 1 + 100  # the third explodes after one
    assert found.wall_seconds == 1.5
    age = datetime.now(UTC) - datetime.fromisoformat(found.time)
    assert timedelta(0) <= age < timedelta(minutes=5)
    assert found.where == where()
    assert tuple(file.table for file in found.files) == TABLES


def test_the_committed_files_hold_the_rows(store: LocalStore) -> None:
    commit(store, made())
    read = {file.table: read_file(store, file, "-").to_pylist() for file in committed(store).files}
    assert [row["trial_id"] for row in read["trials"]] == [t.trial_id for t in TRIALS]
    assert [row["status"] for row in read["trials"]] == ["done", "done", "nonfinite", "done"]
    assert [row["nonfinite_epoch"] for row in read["trials"]] == [None, None, 1, None]
    assert [row["updates"] for row in read["trials"]] == [100, 100, 1, 100]
    assert [row["final_test_error"] for row in read["trials"]] == [0.25, 0.25, None, 0.375]
    origin = ("sweep", "shard_id", "attempt_id", "hostname", "device")
    for row in read["trials"]:
        assert [row[name] for name in origin] == ["tiny", SHARD, "first", "here", "cpu: by hand"]
    assert [(row["trial_id"], row["epoch"]) for row in read["epochs"]] == [
        (trial.trial_id, epoch) for trial in TRIALS for epoch in (1, 2)
    ]
    assert [row["test_error"] for row in read["epochs"]] == [
        0.5, 0.25, 0.5, 0.25, None, None, 0.625, 0.375,
    ]  # fmt: skip
    finite = [trial.trial_id for trial in TRIALS if drift(trial) is not None]
    assert [(row["trial_id"], row["layer"]) for row in read["weights"]] == [
        (trial_id, layer) for trial_id in finite for layer in (1, 2)
    ]


def test_data_are_written_before_the_commit(store: LocalStore) -> None:
    class Watched(LocalStore):
        """Stops where the commit would be made: a worker that dies just before."""

        def put_if_absent(self, key: str, data: bytes) -> bool:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        commit_shard(Watched(store.root), KEYS, SHARD, "first", made(), SHARD_TABLES, where())
    data = [KEYS.data(SHARD, "first", table) for table in TABLES]
    assert store.list("sweeps/") == sorted([*data, KEYS.attempt(SHARD, "first")])
    assert read_commit(store, KEYS, SHARD) is None
    assert commit(store, made(), "second") == "committed"


# Two attempts


def test_a_second_attempt_with_equal_results_is_lost_and_changes_nothing(store: LocalStore) -> None:
    commit(store, made())
    before = everything(store)
    second = replace(made(), wall_seconds=9.0)
    assert commit(store, second, "second", hostname="there") == "lost"
    assert before.items() <= everything(store).items()
    assert committed(store).attempt_id == "first"


def test_a_second_attempt_with_other_results_differs_and_changes_nothing(store: LocalStore) -> None:
    commit(store, made())
    before = everything(store)
    assert commit(store, shard_result(TRIALS, lambda trial: 0.25), "second") == "differs"
    assert before.items() <= everything(store).items()
    assert committed(store).attempt_id == "first"


def test_attempts_never_write_the_same_file(store: LocalStore) -> None:
    commit(store, made(), "first")
    commit(store, made(), "second")
    for table in TABLES:
        keys = [KEYS.data(SHARD, attempt, table) for attempt in ("first", "second")]
        assert set(keys) <= set(store.list("sweeps/"))


def test_an_attempt_whose_first_answer_was_lost_has_committed(store: LocalStore) -> None:
    class Repeating(LocalStore):
        """A client that loses the answer to a write and sends it again by itself."""

        def put_if_absent(self, key: str, data: bytes) -> bool:
            super().put_if_absent(key, data)
            return super().put_if_absent(key, data)

    outcome = commit_shard(
        Repeating(store.root), KEYS, SHARD, "first", made(), SHARD_TABLES, where()
    )
    assert outcome == "committed"
    assert committed(store).attempt_id == "first"


def test_every_attempt_that_trained_to_its_end_says_what_it_found(store: LocalStore) -> None:
    """Also one that differs from the commit, and one that dies where it would commit."""
    other = shard_result(TRIALS, lambda trial: 0.25)
    commit(store, made(), "first")
    commit(store, other, "second", hostname="there", device="a gpu")
    found = [read_attempt(store, KEYS.attempt(SHARD, name)) for name in ("first", "second")]
    assert found == [
        FinishedAttempt(SHARD, "first", result_digest(made()), "here", "cpu: by hand"),
        FinishedAttempt(SHARD, "second", result_digest(other), "there", "a gpu"),
    ]


def test_what_an_attempt_has_left_is_evidence_only(store: LocalStore) -> None:
    """What cannot be read, or is not there, is None and no error."""
    commit(store, made())
    key = KEYS.attempt(SHARD, "first")
    data = store.get(key) or b""
    other = seal(as_json(FinishedAttempt(SHARD, "../first", "d", "here", "cpu")))
    nested = b"[" * 100_000
    for damaged in (b"", b"[]", b"\xff", data[:-5], flipped(data, len(data) // 2), other, nested):
        store.put(key, damaged)
        assert read_attempt(store, key) is None
    store.delete(key)
    assert read_attempt(store, key) is None


# Damage


def without(values: dict[str, Any], name: str) -> dict[str, Any]:
    return {key: value for key, value in values.items() if key != name}


FILES: list[dict[str, Any]] = [
    {"table": table, "key": KEYS.data(SHARD, "first", table), "size": 1, "sha256": "b" * 64}
    for table in TABLES
]
WHOLE: dict[str, Any] = {
    "schema_version": 1,
    "shard_id": SHARD,
    "attempt_id": "first",
    "time": "2026-11-25T07:57:47+00:00",
    "trial_ids": ["07b971e6e2fe6c0f"],
    "files": FILES,
    "result_digest": "f" * 64,
    "twins": {"c06267a6a34b3374": ["3" * 64]},
    "packing": "stacked",
    "updates": 30002,
    "wall_seconds": 6.0,
    "where": {
        "code_sha256": "7" * 64,
        "git_commit": "56bd02472c4da577185c5a2106f4a4d93ccdb5b7",
        "git_dirty": False,
        "hostname": "vm",
        "versions": {
            "python": "3.11.7",
            "numpy": "2.4.6",
            "pyarrow": "26.0.1",
            "ray": "2.60.0",
            "torch": "2.15.0",
        },
        "numerics": {
            "threads": 1,
            "processor": "3f87f55ceafb2463",
            "deterministic_algorithms": True,
            "tf32": False,
            "cuda": None,
            "cublas_workspace": ":4096:8",
        },
        "sweep": "mnist",
        "node_id": "161629d8b2b5f53405e4b57891215c8a0401196ed231f298ed0e29cc",
        "device": "cpu: AMD EPYC, AVX512, 1 thread(s), fused.c",
        "command": ["python", "-m", "jobs.mnist_ablation", "--store", "results"],
    },
}
"""A commit as the code of 56bd024 wrote it, with shorter lists."""


def put(store: LocalStore, body: dict[str, Any]) -> Commit:
    """The commit that is read from this JSON."""
    store.put(KEYS.commit(SHARD), seal(body))
    return committed(store)


def test_a_commit_that_older_code_wrote_is_read(store: LocalStore) -> None:
    found = put(store, WHOLE)
    assert {"schema_version": 1, **as_json(found)} == WHOLE
    assert found.where.versions["torch"] == "2.15.0"
    assert found.where.command[:3] == ("python", "-m", "jobs.mnist_ablation")


def test_a_commit_has_the_keys_that_older_code_gave_it(store: LocalStore) -> None:
    commit(store, made(), numerics={"threads": 1}, node_id="n", command=("python",))
    body = unseal(store.get(KEYS.commit(SHARD)) or b"")
    assert list(body) == list(WHOLE)
    assert set(body["where"]) == set(WHOLE["where"])
    assert set(body["files"][0]) == set(FILES[0])


def test_what_a_later_version_adds_to_a_commit_is_ignored(store: LocalStore) -> None:
    more = {"more": 1, "where": WHOLE["where"] | {"more": {"still": "more"}}}
    assert put(store, WHOLE | more) == put(store, WHOLE)


def broken_commits() -> dict[str, bytes]:
    """Commits that nobody would write, most of them with a sha256 that fits."""
    good = seal(WHOLE)
    place = WHOLE["where"]
    changes: dict[str, dict[str, Any]] = {
        "another-schema": {"schema_version": 99},
        "another-shard": {"shard_id": "0001-bbbbbbbb"},
        "files-without-sha256": {"files": [without(file, "sha256") for file in FILES]},
        "files-with-more": {"files": [file | {"more": 1} for file in FILES]},
        "files-of-text": {"files": list(TABLES)},
        "a-table-twice": {"files": [*FILES, FILES[0]]},
        "one-table-for-another": {"files": [FILES[0] | {"table": "epochs"}, *FILES[1:]]},
        "a-file-of-another-attempt": {
            "files": [FILES[0] | {"key": KEYS.data(SHARD, "other", "trials")}, *FILES[1:]]
        },
        "a-name-that-no-table-has": {
            "files": [FILES[0] | {"table": "../x", "key": KEYS.data(SHARD, "first", "../x")}]
        },
        "an-attempt-that-leads-outside": {
            "attempt_id": "../../../../other",
            "files": [
                file | {"key": KEYS.data(SHARD, "../../../../other", file["table"])}
                for file in FILES
            ],
        },
        "less-than-no-updates": {"updates": -1},
        "more-updates-than-a-column-holds": {"updates": 2**63},
        "less-than-no-time": {"wall_seconds": -0.5},
        "twins-as-a-list": {"twins": ["a"]},
        "updates-in-words": {"updates": "many"},
        "no-seconds": {"wall_seconds": None},
        "no-place": {"where": {}},
        "versions-as-a-list": {"where": place | {"versions": ["torch"]}},
    }
    return {
        "empty": b"",
        "truncated": good[:-20],
        "no-text": b"\xff\xfe\x00",
        "a-list": b"[]",
        "null": b"null",
        "another-object": b'{"hello": 1}',
        "without-its-seal": json.dumps(WHOLE).encode(),
        **{f"without-{name}": seal(without(WHOLE, name)) for name in WHOLE},
        **{name: seal(WHOLE | change) for name, change in changes.items()},
    }


@pytest.mark.parametrize("damage", broken_commits())
def test_a_damaged_commit_is_named_with_what_to_do(store: LocalStore, damage: str) -> None:
    store.put(KEYS.commit(SHARD), broken_commits()[damage])
    with pytest.raises(DamagedError) as caught:
        committed(store)
    assert store.describe(KEYS.commit(SHARD)) in str(caught.value)
    assert "submit the sweep again" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_another_digit_anywhere_in_a_commit_is_noticed(store: LocalStore) -> None:
    commit(store, made())
    path = Path(store.describe(KEYS.commit(SHARD)))
    for data in flipped_digits(path.read_bytes()):
        path.write_bytes(data)
        with pytest.raises(DamagedError):
            read_commit(store, KEYS, SHARD)


def test_what_is_sealed_again_without_a_change_is_the_same_commit(store: LocalStore) -> None:
    """So that damaged commits with a fitting sha256 are refused for what they say."""
    commit(store, made())
    before = committed(store)
    rewrite(store, KEYS.commit(SHARD), lambda body: body)
    assert committed(store) == before


DAMAGE: dict[str, Callable[[bytes], bytes]] = {
    "truncated": lambda data: data[: len(data) // 2],
    "empty": lambda data: b"",
    "longer": lambda data: data + b"\0",
    "first-byte": lambda data: flipped(data, 0),
    "a-byte-in-the-middle": lambda data: flipped(data, len(data) // 2),
    "last-byte": lambda data: flipped(data, len(data) - 1),
}


@pytest.mark.parametrize("damage", DAMAGE)
@pytest.mark.parametrize("table", TABLES)
def test_a_damaged_file_is_named_with_what_to_do(
    store: LocalStore, table: str, damage: str
) -> None:
    commit(store, made())
    key = KEYS.data(SHARD, "first", table)
    store.put(key, DAMAGE[damage](store.get(key) or b""))
    for file in committed(store).files:
        if file.table != table:
            assert read_file(store, file, KEYS.commit(SHARD)).num_rows > 0
            continue
        with pytest.raises(DamagedError) as caught:
            read_file(store, file, KEYS.commit(SHARD))
        assert f"{store.describe(key)} is damaged" in str(caught.value)
        assert f"delete {store.describe(KEYS.commit(SHARD))}" in str(caught.value)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("table", TABLES)
def test_a_removed_file_is_named(store: LocalStore, table: str) -> None:
    commit(store, made())
    path = Path(store.describe(KEYS.data(SHARD, "first", table)))
    path.unlink()
    (file,) = (file for file in committed(store).files if file.table == table)
    with pytest.raises(DamagedError, match="is missing") as caught:
        read_file(store, file, KEYS.commit(SHARD))
    assert str(path) in str(caught.value)


def test_a_shard_is_run_anew_after_its_damaged_commit_is_deleted(store: LocalStore) -> None:
    commit(store, made())
    store.put(KEYS.commit(SHARD), b"{")
    Path(store.describe(KEYS.commit(SHARD))).unlink()
    assert commit(store, made(), "second") == "committed"
    assert committed(store).attempt_id == "second"


# The digest of results


def test_the_digest_does_not_depend_on_the_order_of_the_trials() -> None:
    backwards = shard_result(TRIALS[::-1], drift)
    assert result_digest(backwards) == result_digest(made())


def test_the_digest_does_not_depend_on_the_time_and_the_packing() -> None:
    other = replace(made(), wall_seconds=9.0, packing="alone")
    assert result_digest(other) == result_digest(made())


def test_the_digest_does_not_depend_on_shard_attempt_and_host(tmp_path: Path) -> None:
    one, other = LocalStore(tmp_path / "one"), LocalStore(tmp_path / "other")
    commit_shard(one, KEYS, SHARD, "first", made(), SHARD_TABLES, where())
    away = where("elsewhere", hostname="there", device="gpu", git_commit="d" * 40, git_dirty=True)
    commit_shard(other, SweepKeys("elsewhere"), "7", "x", made(), SHARD_TABLES, away)
    digests = {
        commit.result_digest
        for commit in (read_commit(one, KEYS, SHARD),
                       read_commit(other, SweepKeys("elsewhere"), "7"))
        if commit is not None
    }  # fmt: skip
    assert digests == {result_digest(made())}


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("layer", [0, 1])
def test_one_bit_of_one_weight_changes_the_digest(dtype: str, layer: int) -> None:
    def make() -> ShardResult:
        return shard_result([Trial(tiny(dtype=dtype), 1)])

    def nudge(trial: TrialResult) -> None:
        weight = trial.parameters[layer][0]
        weight[1, 1] = np.nextafter(weight[1, 1], weight.dtype.type(np.inf))

    assert with_trial(make(), 0, nudge) != result_digest(make())


def test_the_sign_of_a_zero_weight_does_not_change_the_digest() -> None:
    """No other value depends on it, and it is not the same on all machines."""

    def zero(value: float) -> Callable[[TrialResult], None]:
        def change(trial: TrialResult) -> None:
            trial.parameters[0][0][0, 0] = value

        return change

    assert with_trial(made(), 0, zero(0.0)) == with_trial(made(), 0, zero(-0.0))
    assert with_trial(made(), 0, zero(0.0)) != with_trial(made(), 0, zero(1e-30))


@pytest.mark.parametrize("metric", [field.name for field in fields(EpochMetrics)])
@pytest.mark.parametrize("epoch", [0, 1])
def test_one_bit_of_one_metric_changes_the_digest(metric: str, epoch: int) -> None:
    def nudge(trial: TrialResult) -> None:
        value = getattr(trial.epochs[epoch], metric)
        nudged = float(np.nextafter(value, np.inf))
        trial.epochs[epoch] = replace(trial.epochs[epoch], **{metric: nudged})

    def forget(trial: TrialResult) -> None:
        trial.epochs[epoch] = replace(trial.epochs[epoch], **{metric: None})

    digests = {result_digest(made()), with_trial(made(), 3, nudge), with_trial(made(), 3, forget)}
    assert len(digests) == 3


def test_zero_and_missing_metrics_have_different_digests() -> None:
    def metric(value: float | None) -> Callable[[TrialResult], None]:
        def change(trial: TrialResult) -> None:
            trial.epochs[0] = replace(trial.epochs[0], train_energy=value)

        return change

    assert len({with_trial(made(), 0, metric(value)) for value in (0.0, -0.0, None)}) == 3


def test_the_number_of_updates_and_the_non_finite_epoch_change_the_digest() -> None:
    def updates(trial: TrialResult) -> None:
        trial.updates += 1

    def later(trial: TrialResult) -> None:
        trial.nonfinite_epoch = 2

    digests = {result_digest(made()), with_trial(made(), 2, updates), with_trial(made(), 2, later)}
    assert len(digests) == 3


def test_results_of_another_seed_or_of_fewer_trials_have_another_digest() -> None:
    one = shard_result(TRIALS[:1])
    reseeded = shard_result([Trial(TRIALS[0].configuration, 2)])
    assert len({result_digest(result) for result in (made(), one, reseeded)}) == 3


def test_a_twin_that_went_another_way_changes_the_digest() -> None:
    (twin,) = made().twins
    other = replace(made(), twins={twin: ["other", made().twins[twin][1]]})
    assert result_digest(other) != result_digest(made())
