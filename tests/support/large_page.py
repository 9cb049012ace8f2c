"""Measures the report page of a large sweep of made-up results: the time to make it, its bytes, and
the time in which a headless Chromium has loaded it.

    python tests/support/large_page.py [--cells N] [--seeds N] [--epochs N] [--store DIRECTORY]
"""

import argparse
import tempfile
import time
from itertools import islice, product
from pathlib import Path

from builders import commit, planned
from many_commits import Unsynced
from playwright.sync_api import sync_playwright

from cluster.report.page.making import report_page
from cluster.results.collect import collect, stored_plans
from cluster.sweeps.sweep import Cell, Sweep, declare
from jobs.experiments import EXPERIMENTS
from pcworker.trials.configuration import configuration
from pcworker.trials.trial import Trial

NETWORKS = ("3-2-2", "3-2-2-2", "3-2-2-2-2")
GAMMAS = 25


def declared(cells: int, seeds: int, epochs: int) -> Sweep:
    """A sweep of so many cells, and BP: panels of t and gamma for three networks."""
    axes = product(range(1, 10_000), range(1, GAMMAS + 1), NETWORKS)
    made = [
        Cell(
            "t-gamma",
            configuration(network=network, rule="IL", t=t, gamma=g / 10, epochs=epochs),
            g / 10,
        )
        for t, g, network in islice(axes, cells)
    ]
    bp = [Cell("rule", configuration(network=n, rule="BP", epochs=epochs), None) for n in NETWORKS]
    return declare([*made, *bp], range(1, seeds + 1))


def drift_of(trial: Trial) -> float:
    config = trial.configuration
    return 0.0 if config.rule == "BP" else (config.t + config.gamma + trial.seed / 7) / 8192


def loaded(page: Path) -> float:
    """The seconds until Chromium has loaded a page, drawn it and run its script."""
    with sync_playwright() as started:
        browser = started.chromium.launch(
            executable_path="/usr/bin/chromium", args=["--no-sandbox"]
        )
        shown = browser.new_page()
        began = time.perf_counter()
        shown.goto(page.as_uri())
        shown.evaluate(
            "new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))"
        )
        seconds = time.perf_counter() - began
        browser.close()
    return seconds


def main() -> None:
    """Makes the sweep, measures and prints."""
    parser = argparse.ArgumentParser(description="What the page of a large sweep costs.")
    for name, default in (("cells", 3333), ("seeds", 3), ("epochs", 64)):
        parser.add_argument(f"--{name}", type=int, default=default)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        store = Unsynced(Path(folder))
        plan = planned(store, declared(options.cells, options.seeds, options.epochs), "large")
        for shard in plan.shards:
            commit(store, plan, shard, drift_of)
        made = collect(store, stored_plans(store, ["large"], EXPERIMENTS))
        began = time.perf_counter()
        page = report_page(store, made, {})
        seconds = time.perf_counter() - began
        path = Path(folder) / "index.html"
        path.write_bytes(page)
        print(
            f"{len(plan.trials):,} trials, {options.cells:,} cells, {options.epochs} epochs: made "
            f"in {seconds:.1f} s, {len(page) / 1e6:.1f} MB, loaded in {loaded(path):.1f} s"
        )


if __name__ == "__main__":
    main()
