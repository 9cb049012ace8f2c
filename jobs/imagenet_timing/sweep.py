"""The rows of Table 4: every rule on every network."""

from collections.abc import Iterator, Sequence
from typing import Any

from cluster.nodes.resources import Resources
from cluster.sweeps.sweep import Cell, Sweep, declare
from jobs.imagenet_timing.configuration import TimingConfiguration, timing_configuration
from pcworker.errors import InputError
from pcworker.trials.configuration import CHOICES


def imagenet_timing(
    *,
    networks: Sequence[str],
    seeds: Sequence[int],
    rules: Sequence[str],
    schedules: Sequence[str],
    t: Sequence[int],
    **common: Any,
) -> Sweep[TimingConfiguration]:
    """The sweep: by default 7 trials per network and seed.

    schedules  of Z-IL and Fa-Z-IL; IL takes the first
    t          of IL
    BP is always there.
    """
    for name, given in (("rule", rules), ("schedule", schedules)):
        if unknown := set(given) - set(CHOICES[name]):
            allowed = ", ".join(CHOICES[name])
            raise InputError(f"{name} {sorted(unknown)[0]!r} is unknown; allowed: {allowed}")

    def cells(network: str) -> Iterator[Cell[TimingConfiguration]]:
        def cell(rule: str, **values: Any) -> Cell[TimingConfiguration]:
            made = timing_configuration(network=network, rule=rule, **values, **common)
            return Cell("timing", made, made.gamma)

        yield cell("BP")
        for rule in ("Z-IL", "Fa-Z-IL"):
            yield from (cell(rule, schedule=schedule) for schedule in schedules)
        yield from (cell("IL", schedule=schedules[0], t=steps) for steps in t)

    every = (cell for network in networks for cell in cells(network))
    wanted = {*rules, "BP"}
    return declare((cell for cell in every if cell.configuration.rule in wanted), seeds)


def device_of(resources: Resources) -> dict[str, Any]:
    """What of a worker's resources is part of what is timed."""
    wanted = resources.device == "cuda" or (resources.device == "auto" and resources.gpus > 0)
    return {"device_kind": "cuda" if wanted else "cpu", "threads": max(1, int(resources.cpus))}
