"""This machine's own speeds, for the minutes that are printed: measured once, then kept.

They scale nothing but minutes: packing goes by the fixed table.
"""

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from cluster.experiment import Seconds
from jobs.mnist_ablation.cost import Kernel, Speeds, shard_seconds
from pcworker.fingerprint import fingerprint
from pcworker.machine.cache import cache_folder
from pcworker.machine.processor import processor_fingerprint
from pcworker.machine.provenance import ROOT, code_sha256, library_versions

_TIMEOUT_S = 120


def calibrated(workers: int) -> Seconds | None:
    """`shard_seconds` by this machine's own speeds; None where they cannot be measured."""
    speeds = measured_speeds(workers)
    return None if speeds is None else partial(shard_seconds, speeds=speeds)


def measured_speeds(workers: int) -> Speeds | None:
    """What a core does while `workers` of them are at work; takes some seconds where it is not
    kept already. None where it cannot be measured: the table's speeds will have to do."""
    there = [processor_fingerprint(), os.cpu_count(), code_sha256(), library_versions(), workers]
    kept = cache_folder() / f"speeds-{fingerprint(there)[:16]}.json"
    try:
        return speeds_from(json.loads(kept.read_text()))
    except (OSError, ValueError, KeyError, TypeError):
        pass  # not kept, or by other code
    try:
        values = mean(_measure(min(workers, os.cpu_count() or 1)))
        speeds = speeds_from(values)
        kept.parent.mkdir(parents=True, exist_ok=True)
        kept.write_text(json.dumps(values))
        return speeds
    except (OSError, ValueError, KeyError, TypeError, subprocess.SubprocessError):
        return None


def speeds_from(values: Mapping[str, Any]) -> Speeds:
    """Reads what the module `speeds` prints; KeyError or TypeError if it is something else."""
    plain = {name: float(values[name]) for name in ("backprop", "batch", "noise", "epoch")}
    return Speeds(fused=Kernel(**values["fused"]), torch=Kernel(**values["torch"]), **plain)


def mean(many: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Of several processes' values, entry by entry."""
    first = many[0]
    return {
        name: mean([values[name] for values in many])
        if isinstance(first[name], Mapping)
        else sum(float(values[name]) for values in many) / len(many)
        for name in first
    }


def _measure(processes: int) -> list[dict[str, Any]]:
    """At the same time, as the workers will be."""
    command = [sys.executable, "-m", "jobs.mnist_ablation.speeds"]
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
