"""The sweep as Ray's metrics, for those who scrape the cluster: shards by state, failures by kind.

The workers count their own: `zilsweep_updates` and `zilsweep_commit_seconds` (`pcworker.actor`).
"""

from ray.util.metrics import Counter, Gauge

from cluster.driver.events import Event, Failed, Finished, Running


class Metrics:
    """Listens to the events of a sweep, and counts."""

    def __init__(self, sweep: str, shards: int, done: int) -> None:
        """`done` is the number of the shards that are committed already."""
        self._shards, self._done, self._running, self._failed = shards, done, 0, 0
        self._gauge = Gauge("zilsweep_shards", "Shards by state.", tag_keys=("sweep", "state"))
        self._failures = Counter(
            "zilsweep_failures", "Attempts without a commit.", tag_keys=("sweep", "kind")
        )
        for metric in (self._gauge, self._failures):
            metric.set_default_tags({"sweep": sweep})
        self._set()

    def hear(self, event: Event) -> None:
        """Counts what has happened."""
        if isinstance(event, Finished):
            self._done += 1
        elif isinstance(event, Failed):
            self._failures.inc(tags={"kind": event.kind})
            self._failed += event.quarantined
        elif isinstance(event, Running):
            self._running = len(event.shards)
        self._set()

    def _set(self) -> None:
        states = {"done": self._done, "running": self._running, "failed": self._failed}
        states["waiting"] = max(0, self._shards - sum(states.values()))
        for state, count in states.items():
            self._gauge.set(count, tags={"state": state})
