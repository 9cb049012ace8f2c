"""Shows on the terminal how a sweep stands: once, or again and again until it is over."""

from collections.abc import Callable, Iterator

from rich import box
from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from cluster.status.status import ShardState, Status
from pcworker.store.store import Store
from pcworker.text import counted, in_a_line

STYLES: dict[ShardState, str] = {
    "done": "green",
    "running": "cyan",
    "failed": "red",
    "damaged": "red",
    "missing": "yellow",
}
LABEL = 12
"""The width of the column of labels, in characters."""


class StatusView:
    """Shows how a sweep stands, and what the user can do next."""

    def __init__(
        self,
        console: Console,
        store: Store,
        again: str | None,
        collect: str,
        *,
        is_older: bool = False,
    ) -> None:
        """
        again     the command line that continues the sweep; None if it is not known
        collect   the command line that makes the sweep's tables
        is_older  True if the sweep is of an older engine, so that it cannot be continued
        """
        self._console, self._store = console, store
        self._again, self._collect, self._is_older = again, collect, is_older
        self._line = "#-" if console.options.ascii_only else "━─"
        """The characters of a bar, where it is full and where it is empty."""

    def show(self, status: Status) -> None:
        """Prints the status."""
        for part in self._parts(status):
            # A path or a command stays one line, so that it can be copied: the terminal wraps it.
            self._console.print(part, soft_wrap=isinstance(part, Text))

    def follow(self, read: Callable[[], Status], wait: Callable[[], object]) -> Status:
        """Shows how the sweep stands until it is over, and returns its last status. A terminal is
        redrawn in place; elsewhere a line is printed for each change.

        read  reads how the sweep stands now
        wait  is called between two readings
        """
        if not self._console.is_terminal:
            return self._follow_lines(read, wait)
        with Live(console=self._console, auto_refresh=False) as live:
            while True:
                status = read()
                live.update(Group(*self._parts(status)), refresh=True)
                if status.over:
                    return status
                wait()

    def _follow_lines(self, read: Callable[[], Status], wait: Callable[[], object]) -> Status:
        line = ""
        while not (status := read()).over:
            if line != (line := _line(status)):
                self._console.print(line, soft_wrap=True)
            wait()
        self.show(status)
        return status

    def _parts(self, status: Status) -> Iterator[Text | Table]:
        yield Text(
            f"Sweep {status.sweep}: {counted(status.trials, 'trial')} in "
            f"{counted(len(status.states), 'shard')}, in {self._store.url}",
            style="bold",
        )
        yield _labelled("Shards", _counts(status))
        yield _labelled("Attempts", Text(_failures(status)))
        if not status.done:
            yield _progress(status, self._line)
            yield _labelled("Updates", Text(_throughput(status)))
            yield _labelled("ETA", Text(_eta(status)))
        yield _labelled("Drivers", Text(_drivers(status)))
        if status.machines:
            yield _machines(status)
        if status.running:
            yield _running(status, self._line)
        if (error := status.first_error) is not None:
            text = f"shard {error.shard_id} ({in_a_line(error.kind)}): {in_a_line(error.error)}"
            yield Text(f"First error: {text}", style="red" if status.count("failed") else "yellow")
            yield Text(f"  its traceback: {self._store.describe(error.key)}")
        for line in status.damaged:
            yield Text(line, style="red")
        yield from self._next(status)

    def _next(self, status: Status) -> Iterator[Text]:
        if status.done:
            yield Text("Every shard is committed. Next:")
            yield Text(f"  {self._collect}")
        elif self._is_older:
            yield Text("The sweep is of an older engine and cannot be continued. Next:")
            yield Text(f"  {self._collect} --partial")
        elif not status.drivers.alive:
            yield Text("No driver is alive: type the command again.", style="yellow")
            if self._again:
                yield Text(f"  {self._again}")


def _labelled(label: str, text: Text) -> Text:
    return Text(f"  {label:<{LABEL}}").append_text(text)


def _progress(status: Status, line: str) -> Text:
    """A bar, and how long the drivers that are alive have been at work."""
    elapsed = status.elapsed_seconds
    since = "" if elapsed is None else f" in {_duration(max(0.0, elapsed))}"
    return _labelled("Progress", _bar(status.share, 30, line).append(f" {status.share:.0%}{since}"))


def _bar(share: float, width: int, line: str) -> Text:
    full = int(share * width)
    return Text(line[0] * full, STYLES["running"]).append(line[1] * (width - full), "dim")


def _counts(status: Status) -> Text:
    """The number of shards in each state, coloured if it is not 0. Damaged shards are named only if
    there are some."""
    text = Text().append(f"{status.count('done')}/{len(status.states)} done", STYLES["done"])
    for state in ("running", "failed", "damaged", "missing"):
        count = status.count(state)
        if count or state != "damaged":
            text.append(", ").append(f"{count} {state}", STYLES[state] if count else "dim")
    return text


def _failures(status: Status) -> str:
    kinds = ", ".join(
        f"{count} {in_a_line(kind)}" for kind, count in sorted(status.failures.items())
    )
    return f"{sum(status.failures.values())} failed" + (f": {kinds}" if kinds else "")


def _throughput(status: Status) -> str:
    rate = status.updates_per_second
    return "-" if rate is None else f"{rate:,.0f} per second"


def _eta(status: Status) -> str:
    if status.eta_seconds is None:
        return "-"
    by = "" if status.calibrated else ", by the cost table alone: nothing is committed yet"
    return f"about {_duration(status.eta_seconds)} with {_workers(status)}{by}"


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 90 * 60 else f"{seconds / 3600:.1f} h"


def _drivers(status: Status) -> str:
    drivers = status.drivers
    on = f" (on {', '.join(map(in_a_line, drivers.alive))})" if drivers.alive else ""
    return f"{len(drivers.alive)} alive{on}, {drivers.ended} ended, {drivers.silent} silent"


def _machines(status: Status) -> Table:
    table = Table("host", "device", box=box.SIMPLE_HEAD)
    table.add_column("workers", justify="right")
    table.add_column("committed", justify="right")
    for machine in status.machines:
        numbers = str(machine.workers), str(machine.committed)
        table.add_row(in_a_line(machine.hostname), in_a_line(machine.device), *numbers)
    return table


def _running(status: Status, line: str) -> Table:
    table = Table("running shard", "", box=box.SIMPLE_HEAD)
    table.add_column("done", justify="right")
    table.add_column("worker on")
    for shard in status.running:
        bar, done = _bar(shard.share, 20, line), f"{shard.share:.0%}"
        table.add_row(shard.shard_id, bar, done, in_a_line(shard.hostname))
    return table


def _line(status: Status) -> str:
    """A line of those facts that change only now and then, not at every reading."""
    return (
        f"{_counts(status).plain}; {_failures(status)}; "
        f"{counted(len(status.drivers.alive), 'driver')} alive, {_workers(status)}"
    )


def _workers(status: Status) -> str:
    return counted(sum(machine.workers for machine in status.machines), "worker")
