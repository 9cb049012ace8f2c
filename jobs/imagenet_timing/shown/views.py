"""Computes what the terminal and the figure show of the timing runs, from the table `timings`."""

from collections.abc import Sequence
from dataclasses import dataclass

from pcworker.equations.rules import BP, FA_Z_IL, IL, Z_IL, label
from pcworker.row import Row
from pcworker.trials.configuration import CHOICES

PAPER_MS = {
    "cpu": {BP.name: 3.1, IL.name: 19.2, Z_IL.name: 3.6, FA_Z_IL.name: 3.6},
    "cuda": {BP.name: 3.7, IL.name: 56.3, Z_IL.name: 4.1, FA_Z_IL.name: 4.2},
}
"""The milliseconds per weight update of Table 4, by device and rule. The paper states neither the
network, nor the batch size, nor the machine."""
PAPER_T = 20
"""The number of inference steps of IL in the paper's timings."""


@dataclass(frozen=True)
class Run:
    """The rules that took turns: one network and seed on one device, in one sweep."""

    network: str
    layers: int
    title: str
    rows: Sequence[Row]
    """The rows of the run, plain BP first."""

    @property
    def bp(self) -> Row:
        return self.rows[0]


@dataclass(frozen=True)
class Paper:
    """The figures of Table 4 for one rule: its time, and its time divided by BP's."""

    ms: float
    ratio: float


def runs(rows: Sequence[Row]) -> list[Run]:
    """The runs that have been timed, by the kind of device, and then from shallow to deep."""
    shards: dict[tuple[str, str], list[Row]] = {}
    for row in rows:
        if row["status"] != "failed":
            shards.setdefault((row["sweep"], row["shard_id"]), []).append(row)
    found = [_run(sorted(mine, key=_place)) for mine in shards.values()]
    return sorted(found, key=lambda run: (run.bp["device_kind"], run.layers, run.title))


def method(row: Row) -> str:
    """The name of a row's method: its rule, and what else distinguishes it in its run."""
    literal = ["literal"] if row["schedule"] == "literal" else []
    execution = [] if row["execution"] == "plain" else [row["execution"]]
    return ", ".join([label(row["rule"], row["t"]), *literal, *execution])


def methods(found: Sequence[Run]) -> list[str]:
    """The names of all methods of some runs, in the order in which they first occur."""
    return list(dict.fromkeys(method(row) for run in found for row in run.rows))


def paper(row: Row) -> Paper | None:
    """The figures of Table 4 for a row, or None if the row cannot be compared with them."""
    if row["t"] not in (None, PAPER_T) or row["execution"] != "plain":
        return None
    if row["schedule"] == "literal":  # the literal schedule costs too much to be what they timed
        return None
    times = PAPER_MS[row["device_kind"]]
    return Paper(times[row["rule"]], times[row["rule"]] / times[BP.name])


def ratio_by_method(run: Run) -> dict[str, float]:
    """The median ratio to BP of each method of a run."""
    return {method(row): row["ratio_to_bp_median"] for row in run.rows}


def by_steps(run: Run) -> list[tuple[int, float]]:
    """The pairs (t, ratio to BP) of plain IL, in the order of t. A single pair is left out."""
    points = sorted(
        (row["t"], row["ratio_to_bp_median"])
        for row in run.rows
        if row["t"] is not None and row["execution"] == "plain"
    )
    return points if len(points) > 1 else []


def cost_of_a_step(run: Run) -> float | None:
    """The cost of one more inference step of IL, in updates of BP. None without several t."""
    points = by_steps(run)
    if not points:
        return None
    (first, low), (last, high) = points[0], points[-1]
    return (high - low) / (last - first)


def name_in(run: Run, found: Sequence[Run]) -> str:
    """The name of a run: its network, with its sweep and seed if several runs have that network."""
    same = [other for other in found if other.network == run.network]
    if len(same) == 1:
        return run.network
    return f"{run.network} ({run.bp['sweep']}, seed {run.bp['seed']})"


def series(found: Sequence[Run]) -> list[list[Run]]:
    """Groups of runs of one sweep and seed, which differ in the network alone, shallow to deep."""
    together: dict[tuple[str, int], list[Run]] = {}
    for run in found:
        together.setdefault((run.bp["sweep"], run.bp["seed"]), []).append(run)
    return [sorted(runs, key=lambda run: run.layers) for runs in together.values()]


def _run(rows: Sequence[Row]) -> Run:
    bp = rows[0]
    device = str(bp["device"])
    arithmetics = {row["arithmetic"] for row in rows if row["rule"] != BP.name} - {"displacement"}
    also = "".join(f", {arithmetic} arithmetic" for arithmetic in sorted(arithmetics))
    return Run(
        network=bp["network"],
        layers=bp["layers"],
        title=(
            f"{bp['network']} ({bp['layers']} layers, {bp['parameters'] / 1e6:,.1f} M parameters), "
            f"batch {bp['batch_size']}, {_data(bp)}, {bp['updates']} updates after {bp['warmup']}, "
            f"seed {bp['seed']}{also}; {device}, torch {bp['torch_version']}, {bp['hostname']}"
        ),
        rows=rows,
    )


def _data(row: Row) -> str:
    return "synthetic images" if row["data"] == "synthetic" else "images of ImageNet"


def _place(row: Row) -> tuple[bool, bool, bool, bool, int, int]:
    rule, literal = row["rule"], row["schedule"] == "literal"
    execution = CHOICES["execution"].index(row["execution"])
    place = rule != BP.name, rule == IL.name, literal, rule == FA_Z_IL.name, row["t"] or 0
    return *place, execution
