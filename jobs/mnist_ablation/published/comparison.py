"""Compares trials with the published digests of `make mnist` and `make figure3`.

Trials in the defined sums have the same bits on every machine. Whoever finds other ones has found a
defect of a machine, or of ours. `digests.csv` has a row for each trial: the digests of its final
weights and of its metrics, and for each layer the first digits of its own. Its first line has the
sha256 of the data: with other data nothing is compared.

`python -m jobs.mnist_ablation.published` makes the table.
"""

import csv
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import cache
from itertools import zip_longest
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from cluster.results.audit import Published
from cluster.results.committed import Portion
from pcworker.data.mnist import PARTS
from pcworker.equations.rules import label
from pcworker.fingerprint import fingerprint
from pcworker.row import Row
from pcworker.trials.digests import combine, nonfinite_digest

PUBLISHED = Path(__file__).with_name("digests.csv")
_DIGITS = 12
DATA_LINE = "# trained on " + " ".join(f"{name} {part.sha256}" for name, part in PARTS.items())
"""The first line of the table: the sha256 of each array of the data that sweeps learn."""


@dataclass(frozen=True)
class TrialDigests:
    """The digests of a trial. They are equal if and only if all bits of two results are."""

    weights: str
    """The digest of the final weights, or of the word and the update if they are not finite."""
    metrics: str
    """The fingerprint of the metrics of all epochs."""
    layers: str
    """For each parameter from the output on, the first digits of its sha256."""


@cache
def published_digests() -> dict[str, TrialDigests]:
    """The published digests, by trial id. There are none if they are of other data."""
    names = [field.name for field in fields(TrialDigests)]
    with PUBLISHED.open(newline="") as file:
        if file.readline().rstrip("\n") != DATA_LINE:
            return {}
        return {
            row["trial_id"]: TrialDigests(**{name: row[name] for name in names})
            for row in csv.DictReader(file)
        }


def compared_with_published(portions: Iterable[Portion]) -> Published:
    """Compares the trials that are published."""
    compared, differing = 0, []
    for portion in portions:
        if not any(trial.trial_id in published_digests() for trial in portion.trials):
            continue
        tables = {name: _known(portion.rows(name)) for name in ("trials", "epochs", "weights")}
        rows = {row["trial_id"]: row for row in tables["trials"].to_pylist() if row["updates"]}
        ours = found_digests_of(tables, list(rows))
        compared += len(ours)
        differing += [
            _difference(rows[trial_id], bits, published_digests()[trial_id])
            for trial_id, bits in ours.items()
            if bits != published_digests()[trial_id]
        ]
    return Published(compared, tuple(differing))


def found_digests_of(
    tables: Mapping[str, pa.Table], trial_ids: Sequence[str]
) -> dict[str, TrialDigests]:
    """The digests of these trials, by trial id."""
    shas, epochs = _parameter_shas(tables["weights"]), _by_trial(tables["epochs"])
    trials = {row["trial_id"]: row for row in tables["trials"].to_pylist()}
    return {each: _bits(trials[each], epochs[each], shas[each]) for each in trial_ids}


def _known(rows: pa.Table) -> pa.Table:
    """The rows of the trials that are published."""
    known = pa.array(published_digests(), pa.string())
    return rows.filter(pc.is_in(rows["trial_id"], value_set=known))


def _parameter_shas(weights: pa.Table) -> Mapping[str, list[str]]:
    """The sha256 of the final parameters, layer by layer, weight before bias, by trial id."""
    shas: Mapping[str, list[str]] = defaultdict(list)
    rows = weights.select(["trial_id", "layer", "parameter", "sha256"]).to_pylist()
    for row in sorted(rows, key=lambda row: (row["layer"], row["parameter"] != "weight")):
        shas[row["trial_id"]].append(row["sha256"])
    return shas


def _by_trial(epochs: pa.Table) -> Mapping[str, list[Row]]:
    """The rows of the table `epochs`, from the first epoch on, by trial id."""
    found: Mapping[str, list[Row]] = defaultdict(list)
    for row in sorted(epochs.to_pylist(), key=lambda row: row["epoch"]):
        found[row["trial_id"]].append(row)
    return found


def _bits(trial: Row, epochs: Sequence[Row], shas: Sequence[str]) -> TrialDigests:
    metrics = [
        [value.hex() if isinstance(value, float) else value for value in _measured(row)]
        for row in epochs
    ]
    return TrialDigests(
        combine(shas) if shas else nonfinite_digest(trial["updates"]),
        fingerprint([trial["nonfinite_epoch"], trial["updates"], metrics]),
        " ".join(sha[:_DIGITS] for sha in shas),
    )


def _measured(row: Row) -> Iterator[Any]:
    """The metrics of an epoch, by the order of their names."""
    return (row[name] for name in sorted(row) if name not in ("trial_id", "seed"))


def _difference(trial: Row, ours: TrialDigests, theirs: TrialDigests) -> str:
    """A line about a trial whose bits are not the published ones."""
    both = enumerate(zip_longest(ours.layers.split(), theirs.layers.split()), 1)
    layers = ", ".join(str(place) for place, (mine, published) in both if mine != published)
    what = f"the parameters {layers}, counted from the output" if layers else "the metrics alone"
    if not layers and ours.weights != theirs.weights:
        what = f"the update after which it was not finite: {ours.weights}, not {theirs.weights}"
    rule = label(trial["rule"], trial["t"])
    return (
        f"trial {trial['trial_id']} ({trial['network']}, {rule}, gamma {trial['gamma']}, sigma "
        f"{trial['sigma']}, seed {trial['seed']}) does not have the published bits: it differs in "
        f"{what}, and was trained on {trial['hostname']} ({trial['device']})"
    )
