"""Replaces the fixed table of `cost` by this machine's speeds, for the minutes that are printed.

For a long sweep it runs `speeds` in processes of their own, and keeps the speeds in the user's
cache. For a short one `look` scales the table. They change nothing but the minutes: shards are
packed without them.
"""

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from cluster.experiment import Seconds
from jobs.mnist_ablation.cost import KernelCosts, Speeds, shard_seconds
from jobs.mnist_ablation.speed.look import scaled_speeds
from pcworker.fingerprint import fingerprint
from pcworker.machine.cache import cache_folder
from pcworker.machine.processor import processor_fingerprint
from pcworker.machine.provenance import ROOT, code_sha256, library_versions

_TIMEOUT_S = 120
WORTH_MEASURING_S = 60.0
"""A sweep that takes fewer seconds than this, by the cost table, is not worth the time that
measuring all of this machine's speeds takes."""
_PLAIN = ("backprop", "batch", "noise", "epoch", "shard")
"""The fields of `Speeds` that are numbers."""


def calibrated(workers: int, seconds: float) -> Seconds | None:
    """`shard_seconds` with this machine's speeds; None if they cannot be measured.

    All speeds are measured once per machine, version of the sources and number of workers.

    seconds  what the sweep takes by the table: a short one is worth a short look only
    """
    speeds = kept_speeds(workers)
    if speeds is None and seconds < WORTH_MEASURING_S:
        speeds = scaled_speeds(min(workers, os.cpu_count() or 1))
    elif speeds is None:
        speeds = measured_speeds(workers)
    return None if speeds is None else partial(shard_seconds, speeds=speeds)


def kept_speeds(workers: int) -> Speeds | None:
    """The speeds that were measured here before; None if none were."""
    try:
        return speeds_from(json.loads(_kept(workers).read_text()))
    except (OSError, ValueError, KeyError, TypeError):
        return None  # there is no such file, or it cannot be read


def measured_speeds(workers: int) -> Speeds | None:
    """Measures the speeds of one core while `workers` processes compute, and keeps them. None if
    they cannot be measured. It takes some seconds."""
    kept = _kept(workers)
    try:
        values = mean(_measure(min(workers, os.cpu_count() or 1)))
        speeds = speeds_from(values)
        kept.parent.mkdir(parents=True, exist_ok=True)
        kept.write_text(json.dumps(values))
        return speeds
    except (OSError, ValueError, KeyError, TypeError, subprocess.SubprocessError):
        return None


def _kept(workers: int) -> Path:
    """The file in which the speeds are kept."""
    there = [processor_fingerprint(), os.cpu_count(), code_sha256(), library_versions(), workers]
    return cache_folder() / f"speeds-{fingerprint(there)[:16]}.json"


def speeds_from(values: Mapping[str, Any]) -> Speeds:
    """Reads what `speeds` prints. Raises KeyError, TypeError or ValueError for anything else."""
    plain = {name: float(values[name]) for name in _PLAIN}
    return Speeds(
        compiled=KernelCosts(**values["compiled"]), torch=KernelCosts(**values["torch"]), **plain
    )


def mean(many: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The mean of several processes' values, entry by entry."""
    first = many[0]
    return {
        name: mean([values[name] for values in many])
        if isinstance(first[name], Mapping)
        else sum(float(values[name]) for values in many) / len(many)
        for name in first
    }


def _measure(processes: int) -> list[dict[str, Any]]:
    """Runs `speeds` in this many processes at the same time, as the workers will run."""
    command = [sys.executable, "-m", "jobs.mnist_ablation.speed.speeds"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    started = [
        subprocess.Popen(
            command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        )
        for _ in range(processes)
    ]
    try:
        return [json.loads(each.communicate(timeout=_TIMEOUT_S)[0]) for each in started]
    finally:
        for each in started:
            each.kill()
            each.wait()
