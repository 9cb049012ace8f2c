"""The plan in a store. It is the head `plan.json`, and a file with the shards beside it.

The plan of the first submission is stored, and it remains the plan of that sweep. A later
submission of the same trials adopts it, even if today's code would pack the trials in another way.
A submission of other trials under the same name is refused. The file is written first. So there is
a plan if and only if there is a head, and a file without a head means nothing.
"""

import difflib
import shlex
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from cluster.experiment import Experiment, Experiments
from cluster.sweeps.columns import ColumnFile, shards_to_parquet
from cluster.sweeps.head import head_json, plan_of_head
from cluster.sweeps.older import is_whole, whole_plan
from cluster.sweeps.plan import Plan
from pcworker.errors import DamagedError, InputError, StoreError
from pcworker.plain import from_json
from pcworker.store.keys import SCHEMA_VERSION, SWEEPS, SweepKeys
from pcworker.store.sealed import seal, unseal
from pcworker.store.store import Store
from pcworker.trials.trial import C

_SHOWN = 8
"""A message names so many sweeps, at most."""


@dataclass(frozen=True)
class Outline:
    """What the stored plans of all versions say of themselves."""

    schema_version: int
    engine_version: int
    trial_set: str
    """The fingerprint of the set of its trials."""
    trial_count: int
    shard_count: int
    experiment: str = "ablation"
    """The oldest plans name no experiment: the ablation was the only one then."""


@dataclass(frozen=True)
class _Submitted:
    """The command line in a stored plan's provenance, in the newer form or the older one."""

    command: tuple[str, ...] | None = None
    argv: tuple[str, ...] | None = None


def adopt_plan(store: Store, plan: Plan[C]) -> Plan[C]:
    """Returns `plan` with the shards of the plan that is stored under its name, or `plan` itself
    if none is stored yet. The stored shards are read only if they are others than the plan's.

    Raises InputError if the name is taken by another trial set or by an older engine's, and
    DamagedError if the stored plan cannot be read.
    """
    stored = _read(store, plan.name)
    if stored is None:
        return plan
    _require_same_trials(plan, stored.outline)
    if stored.body == _head(plan, shards_to_parquet(plan.shards), stored.body.get("provenance")):
        return plan
    # The same trials may be declared as other cells. The report shows the cells of this submission.
    return replace(plan, shards=_plan_of(store, stored, plan.name, plan.experiment).shards)


def store_plan(store: Store, plan: Plan[C], provenance: dict[str, Any]) -> Plan[C]:
    """Stores `plan` if no plan has its name yet, and returns the plan that counts.

    If there is a plan already, or one is stored in the meantime, this does the same as
    `adopt_plan`, and raises the same errors.
    """
    if store.get(plan.keys.plan) is None:
        shards = shards_to_parquet(plan.shards)
        head = seal(_head(plan, shards, provenance))
        store.put(ColumnFile.of(shards).key(plan.keys), shards)
        if store.put_if_absent(plan.keys.plan, head):
            return plan
    adopted = adopt_plan(store, plan)
    if adopted is plan:  # Its own shards are stored. If their file was lost, it is here again.
        shards = shards_to_parquet(plan.shards)
        store.put_if_absent(ColumnFile.of(shards).key(plan.keys), shards)
    return adopted


def read_plan(store: Store, name: str, experiments: Experiments) -> Plan[Any] | None:
    """Reads the plan that is stored under `name`; None if there is none.

    Raises DamagedError if the plan cannot be read, InputError if it belongs to an experiment that
    is not among `experiments`.
    """
    stored = _read(store, name)
    if stored is None:
        return None
    kind = stored.outline.experiment
    if (experiment := experiments.get(kind)) is None:
        raise InputError(
            f"sweep {name} holds a plan of the experiment {kind}, and this command knows "
            f"{', '.join(experiments)}; give another --sweep, or use a version that knows it"
        )
    return _plan_of(store, stored, name, experiment)


def unknown_sweep(store: Store, name: str) -> InputError:
    """The error for a sweep that is not in the store."""
    return InputError(
        f"there is no sweep {name} in the store {store.url}; {sweeps_there(store, name)}"
    )


def sweeps_there(store: Store, name: str = "") -> str:
    """Says which sweeps are in the store. If there are many, those come first whose names are near
    to `name`, and the others are counted."""
    names: list[str] = []
    with suppress(StoreError):  # Whoever may read a sweep may not be allowed to list all of them.
        names = [each for each in store.folders(SWEEPS) if "+" not in each]
    if not names:
        return "check both names"
    if len(names) > _SHOWN:
        names = list(dict.fromkeys([*difflib.get_close_matches(name, names, _SHOWN), *names]))
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return f"it has {', '.join(names[:_SHOWN])}{more}"


def read_outline(store: Store, name: str) -> Outline | None:
    """Reads what the plan that is stored under `name` says of itself, without its shards; None if
    there is none. Raises DamagedError if that cannot be read."""
    stored = _read(store, name)
    return None if stored is None else stored.outline


def first_command(store: Store, sweep: str) -> str | None:
    """The command line that submitted the sweep first; None if the plan does not say it."""
    try:
        said = unseal(store.get(SweepKeys(sweep).plan) or b"").get("provenance")
        submitted = from_json(_Submitted, said)
    except ValueError:
        return None
    if submitted.command is not None:
        return shlex.join(submitted.command)
    if submitted.argv is not None:  # the oldest plans: this was the only job then
        return shlex.join(["python", "-m", "jobs.mnist_ablation", *submitted.argv])
    return None


def _head(plan: Plan[Any], shards: bytes, provenance: Any) -> dict[str, Any]:
    """The `plan.json` of a plan with these bytes in the file beside it."""
    return head_json(plan, ColumnFile.of(shards)) | {"provenance": provenance}


class _Stored(NamedTuple):
    """A `plan.json`."""

    body: dict[str, Any]
    outline: Outline


def _read(store: Store, name: str) -> _Stored | None:
    """Reads the `plan.json` of a sweep; None if there is none."""
    data = store.get(SweepKeys(name).plan)
    if data is None:
        return None
    with _naming_damage(store, name):
        body = unseal(data)
        if is_whole(body):
            counts = {"trial_count": len(body["trials"]), "shard_count": len(body["shards"])}
            return _Stored(body, from_json(Outline, body | counts))
        return _Stored(body, from_json(Outline, body))


def _plan_of(store: Store, stored: _Stored, name: str, experiment: Experiment) -> Plan[Any]:
    """The plan of a `plan.json` of this experiment. Raises DamagedError if it cannot be read."""
    body, outline = stored
    with _naming_damage(store, name):
        known, version = experiment.configuration.engine_version, outline.engine_version
        if outline.schema_version != SCHEMA_VERSION or not 1 <= version <= known:
            raise ValueError(
                f"schema {outline.schema_version} and engine {version}, "
                f"not {SCHEMA_VERSION} and at most {known}"
            )
        if is_whole(body):
            return whole_plan(body | {"experiment": outline.experiment}, name, experiment)
        return plan_of_head(store, body, name, experiment)


def _require_same_trials(plan: Plan[Any], stored: Outline) -> None:
    """Raises InputError if the stored plan is of another experiment, of an older engine or of
    other trials than `plan`."""
    name, kind = plan.name, plan.experiment.name
    if stored.experiment != kind:
        raise InputError(
            f"sweep {name} already holds another plan, of another experiment than {kind}; choose "
            "another --sweep, or leave it out to get a name of its own"
        )
    if 0 < stored.engine_version < plan.engine_version:
        raise InputError(
            f"sweep {name} is of engine {stored.engine_version}, and this is engine "
            f"{plan.engine_version}, whose numbers differ: it can be collected, queried and "
            "deleted, but not continued; choose another --sweep, or leave it out"
        )
    if stored.trial_set != plan.trial_set and stored.engine_version == plan.engine_version:
        raise InputError(
            f"sweep {name} already holds another plan ({stored.trial_count} trials, not these "
            f"{len(plan.trials)}); choose another --sweep, or leave it out to get a name of its own"
        )


@contextmanager
def _naming_damage(store: Store, name: str) -> Iterator[None]:
    """Turns the errors that a damaged `plan.json` makes other functions raise into a DamagedError
    that names it. Errors of the store stay as they are."""
    try:
        yield
    except StoreError:
        raise
    except (ValueError, KeyError, TypeError, AttributeError, IndexError, InputError) as error:
        raise DamagedError(
            f"{store.describe(SweepKeys(name).plan)} is damaged or from another version "
            f"({type(error).__name__}: {error}); choose another --sweep, or restore the file"
        ) from error
