"""Tests of the metrics that a sweep exports. Oracle: the events that its driver hears.

The sweep runs in a process of its own. The process of the tests connects to Ray more than once, and
Ray counts the metrics of such a process twice.
"""

import json
import os
import re
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from pathlib import Path
from typing import Any

from dispatching import Known, dispatcher

from cluster.driver.events import Failed, Finished
from cluster.nodes.resources import Resources, ray_environment
from cluster.sweeps.plan import make_plan
from cluster.sweeps.stored import store_plan
from cluster.sweeps.sweep import Cell, declare
from jobs.mnist_ablation.experiment import ABLATION
from pcworker.store.local import LocalStore
from pcworker.trials.configuration import configuration

PATIENCE_S = 120.0
SERIES = re.compile(r'ray_zilsweep_(\w+)\{.*sweep="measured".*\} (\S+)')


def expected(events: list[Any], shards: int) -> dict[str, float]:
    done = [event for event in events if isinstance(event, Finished)]
    failed = [event for event in events if isinstance(event, Failed)]
    updates = sum(20 * len(event.shard.trials) for event in done)  # 400 digits are 20 batches of 20
    return {
        'shards{state="done"}': len(done),
        'shards{state="failed"}': sum(event.quarantined for event in failed),
        'shards{state="waiting"}': shards - len(done) - 1,
        'failures_total{kind="error"}': len(failed),
        "updates_total": updates,
        "commit_seconds_count": len(done),
    }


def scraped(port: int) -> dict[str, float]:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=30) as page:
        lines = page.read().decode().splitlines()
    found: dict[str, float] = {}
    for line in lines:
        if said := SERIES.match(line):
            tag = re.search('(state|kind)="[a-z]+"', line)
            found[said[1] + (f"{{{tag[0]}}}" if tag else "")] = float(said[2])
    return found


def main() -> None:
    """Runs two shards, of which one always fails. Prints the expected and the scraped metrics."""
    ray_environment(None)
    import ray
    from made_up import made_up_digits, work

    from cluster.driver.metrics import Metrics
    from cluster.driver.pools import on_ray
    from cluster.nodes import connect

    cells = [
        Cell("rule", configuration(network=network, rule="Z-IL"), 1.0)
        for network in ("784-16-10", "100-16-10")  # the digits have 784 pixels, not 100
    ]
    plan = make_plan(ABLATION, declare(cells, seeds=[1]), "measured")
    events: list[Any] = []
    with tempfile.TemporaryDirectory() as folder, connect.connected(None):
        store = LocalStore(Path(folder))
        store_plan(store, plan, {})
        metrics = Metrics(plan.name, len(plan.shards), 0)

        def hear(event: Any) -> None:
            events.append(event)
            metrics.hear(event)

        one = Resources(workers=1, cpus=1, gpus=0, device="cpu")
        pool = on_ray.RayPool(work(store, plan.name), made_up_digits(), one)
        pool.start(len(plan.shards))
        dispatcher(pool, hear).run(plan.shards, Known())
        due = expected(events, len(plan.shards))
        [node] = ray.nodes()
        deadline, pause = time.monotonic() + PATIENCE_S, threading.Event()
        found: dict[str, float] = {}
        while not due.items() <= found.items() and time.monotonic() < deadline:
            pause.wait(0.5)
            found = scraped(node["MetricsExportPort"])
    print(json.dumps([due, {name: found.get(name) for name in due}]))


def test_metrics_say_what_the_driver_hears() -> None:
    environment = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
    environment |= {
        "PYTHONPATH": os.pathsep.join(sys.path),
        "RAY_metrics_report_interval_ms": "1000",
    }
    done = subprocess.run(
        [sys.executable, __file__],
        env=environment,
        capture_output=True,
        text=True,
        timeout=2 * PATIENCE_S,
    )
    assert done.returncode == 0, done.stderr
    due, found = json.loads(done.stdout.splitlines()[-1])
    assert due['failures_total{kind="error"}'] == 3
    assert due['shards{state="done"}'] == due["commit_seconds_count"] == 1
    assert found == due


if __name__ == "__main__":
    main()
