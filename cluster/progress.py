"""The progress of a sweep on the driver's terminal: a bar with ETA and the failures so far."""

from collections.abc import Mapping

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn


class SweepProgress:
    """A bar over the cost of all shards; without a terminal, a line per finished shard."""

    def __init__(self, console: Console, costs: Mapping[str, float], done: set[str]) -> None:
        self._console, self._costs = console, costs
        self._done, self._failures = set(done), 0
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.percentage:>5.1f}%"),
            TimeElapsedColumn(),
            TextColumn("ETA"),
            TimeRemainingColumn(),
            console=console,
            disable=not console.is_terminal,
        )
        # the bar counts what is left, so that a resumed sweep's ETA is not fooled by a flying start
        self._total = sum(cost for shard, cost in costs.items() if shard not in done) or 1.0
        self._started_done = set(done)
        self._task = self._bar.add_task(self._description(), total=self._total)

    def __enter__(self) -> "SweepProgress":
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def update(self, shares: Mapping[str, float]) -> None:
        """The shards at work and the share of each that is done."""
        fresh = self._done - self._started_done
        completed = sum(self._costs[shard] for shard in fresh)
        completed += sum(self._costs[shard] * share for shard, share in shares.items())
        self._bar.update(self._task, completed=completed, description=self._description())

    def finished(self, shard_id: str, outcome: str, seconds: float) -> None:
        """A shard has a commit; `outcome` is that of `cluster.dispatch.Finished`."""
        self._done.add(shard_id)
        if outcome == "differs":
            self._console.print(
                f"shard {shard_id} had been committed by another attempt, with OTHER results: "
                "this sweep does not repeat itself bit for bit; the first commit stands",
                style="red",
            )
        elif not self._console.is_terminal:
            what = {
                "committed": f"committed after {seconds:.0f} s",
                "lost": f"found committed after {seconds:.0f} s, with the same results",
                "elsewhere": "committed by another driver",
            }[outcome]
            self._console.print(f"shard {shard_id} {what}: {self._description()}")

    def failed(self, message: str) -> None:
        """An attempt failed."""
        self._failures += 1
        self._console.print(message, style="yellow")

    def _description(self) -> str:
        return f"{len(self._done)}/{len(self._costs)} shard(s), {self._failures} failure(s)"
