"""Shows a sweep's progress: as a bar with ETA on a terminal, else by a line for every event."""

import json
import time
from collections.abc import Mapping
from datetime import UTC, datetime

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from cluster.driver.events import (
    Event,
    Failed,
    Finished,
    Joined,
    Running,
    Suspended,
    Trouble,
    Waiting,
)
from pcworker.text import counted, printable

LOG_EVERY_S = 60.0
"""The seconds between two lines of progress where there is no bar."""


class SweepProgress:
    """Hears the events of a sweep and shows them."""

    def __init__(
        self,
        console: Console,
        costs: Mapping[str, float],
        done: set[str],
        *,
        debug: bool = False,
    ) -> None:
        """
        costs  the estimated seconds of every shard, by shard id
        done   the ids of the shards that are committed already
        debug  True: no bar, which would disturb a debugger at the terminal, and the traceback of
               every failed attempt
        """
        self._console, self._costs, self._debug = console, costs, debug
        self._live = console.is_terminal and not debug
        """True if there is a bar. Otherwise every event is a line of fields."""
        self._done, self._failures = set(done), 0
        self._told = set[str]()
        """The troubles of workers that were shown: all workers may have the same."""
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.percentage:>5.1f}%"),
            TimeElapsedColumn(),
            TextColumn("ETA"),
            TimeRemainingColumn(),
            console=console,
            disable=not self._live,
        )
        # The bar counts only what is left, so that the committed shards of a resumed sweep do not
        # make its ETA too short.
        self._total = sum(cost for shard, cost in costs.items() if shard not in done) or 1.0
        self._completed = 0.0
        """The estimated seconds of the shards that were finished since the start."""
        self._task = self._bar.add_task(self._description(), total=self._total)
        self._logged = time.monotonic()

    def __enter__(self) -> "SweepProgress":
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def hear(self, event: Event) -> None:
        """Shows what has happened."""
        if isinstance(event, Running):
            self._update(event)
        elif isinstance(event, Finished):
            self._finished(event)
        elif isinstance(event, Failed):
            self._failures += 1
            then = "quarantined" if event.quarantined else "it will be tried again"
            self._show(
                f"shard {event.shard.shard_id} failed on {event.worker.hostname} ({event.kind}: "
                f"{event.error}); {then}",
                "failed",
                style="yellow",
                shard=event.shard.shard_id,
                kind=event.kind,
                error=event.error,
                worker=event.worker.hostname,
                quarantined=event.quarantined,
            )
            if self._debug:
                self._console.print(event.traceback, soft_wrap=True)
        elif isinstance(event, Suspended):
            shard, host, reached = event.shard.shard_id, event.worker.hostname, event.reached
            text = f"shard {shard} was halted on {host} after {_epochs(reached)} epochs"
            self._show(text, "halted", shard=shard, worker=host, reached=_epochs(reached))
        elif isinstance(event, Joined):
            worker = event.worker
            self._show(
                f"  worker on {worker.hostname}: {worker.device}",
                "worker",
                worker=worker.hostname,
                device=worker.device,
                places=worker.places if worker.places > 1 else None,
                pid=worker.pid,
            )
            if event.trouble and event.trouble not in self._told:
                self._told.add(event.trouble)
                self.hear(Trouble(f"{worker.hostname}: {event.trouble}"))
        elif isinstance(event, Trouble):
            self._show(event.message, "trouble", style="yellow", message=event.message)
        elif isinstance(event, Waiting):
            self._show(f"  {event}", "waiting", message=event)

    def _finished(self, event: Finished) -> None:
        shard_id = event.shard.shard_id
        if shard_id not in self._done:
            self._done.add(shard_id)
            self._completed += self._costs[shard_id]
        if event.outcome == "differs":
            text = (
                f"shard {shard_id} had been committed by another attempt, with OTHER results: "
                "this sweep does not repeat itself bit for bit; the first commit stands"
            )
            self._show(text, "differs", style="red", shard=shard_id, message=text)
        elif not self._live:
            self._log(
                event.outcome,
                shard=shard_id,
                seconds=round(event.wall_seconds, 1),
                worker=event.worker.hostname if event.worker else None,
                resumed_from=_epochs(event.resumed_from) if event.resumed_from else None,
                done=f"{len(self._done)}/{len(self._costs)}",
                failures=self._failures,
            )

    def _update(self, event: Running) -> None:
        completed = self._completed
        completed += sum(self._costs[shard] * at.share for shard, at in event.shards.items())
        self._bar.update(self._task, completed=completed, description=self._description())
        if not self._live and time.monotonic() - self._logged > LOG_EVERY_S:
            left = self._bar.tasks[self._task].time_remaining
            self._log(
                "running",
                percent=round(100 * completed / self._total, 1),
                eta_seconds=None if left is None else round(left),
                workers=len(event.workers),
                shards=len(event.shards),
                done=f"{len(self._done)}/{len(self._costs)}",
                failures=self._failures,
            )

    def _show(self, text: str, name: str, *, style: str | None = None, **fields: object) -> None:
        """Shows an event: beside a bar as text, otherwise as fields."""
        if self._live:
            self._console.print(text, style=style)
        else:
            self._log(name, **fields)

    def _log(self, name: str, **fields: object) -> None:
        self._logged = time.monotonic()
        now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        given = (f"{key}={_quoted(v)}" for key, v in fields.items() if v is not None)
        self._console.print(f"{now} event={name} {' '.join(given)}", soft_wrap=True)

    def _description(self) -> str:
        shards, failures = counted(len(self._costs), "shard"), counted(self._failures, "failure")
        return f"{len(self._done):,}/{shards}, {failures}"


def _epochs(reached: float) -> str:
    return f"{reached:.4g}"


def _quoted(value: object) -> str:
    """Quotes a value as JSON if its text, without control characters, is not one word."""
    text = printable(str(value))
    return json.dumps(text, ensure_ascii=False) if set(text) & set(' "=\n\t') else text
