"""The only place of the driver that talks to Ray: connects, starts workers, hands them shards.

Actors have no restarts and no retries of Ray's own: the driver replaces them, so that every attempt
is visible and counted in one place. What to start next is decided in `cluster.decide`.

`cluster.run` imports this module late, when it has set Ray's environment (`ray_environment`).
"""

import signal
import socket
import threading
import traceback
import uuid
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import ray
from ray.exceptions import GetTimeoutError, OutOfMemoryError, RayActorError, RayError, RayTaskError

from cluster.decide import Failure, FailureKind, Start, is_quarantined, next_start
from cluster.plan import Shard
from cluster.resources import Resources, workers_that_fit
from pcworker.actor import Worker
from pcworker.digits import Digits
from pcworker.errors import InputError

START_TIMEOUT_S = 120
REACH_S = 5
POLL_S = 0.5


@dataclass(frozen=True)
class Finished:
    """A shard's attempt ended in a commit, its own or an earlier one."""

    shard: Shard
    outcome: str
    """`pcworker.commit.Outcome`, or "elsewhere" if another driver's worker had committed it."""
    wall_seconds: float


@dataclass(frozen=True)
class Failed:
    """A shard's attempt ended without a commit."""

    shard: Shard
    attempt_id: str
    kind: FailureKind
    error: str
    traceback: str
    quarantined: bool


@dataclass(frozen=True)
class Running:
    """The shards at work, with the share of each that is done."""

    shares: dict[str, float]


Event = Finished | Failed | Running


@contextmanager
def connected(address: str | None) -> Iterator[str]:
    """A connection to Ray; yields the line that says to which.

    address  None: a new local Ray, on the loopback interface, that ends with this process;
             "auto" or HOST:PORT: that cluster. InputError if it cannot be reached.
    """
    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR"}
    if address not in (None, "auto"):
        _check_reachable(address)
    try:
        if address is None:
            memory = 512 * 2**20  # the digits take 55 MB; weights never travel through Ray
            ray.init("local", include_dashboard=False, object_store_memory=memory, **quiet)
        else:
            ray.init(address, **quiet)
    except (ConnectionError, RayError, ValueError, RuntimeError) as error:
        raise InputError(
            f"Ray at {address or 'this machine'} cannot be reached: {_first_line(error)}; "
            "check --address, RAY_ADDRESS and the cluster's token"
        ) from error
    if threading.current_thread() is threading.main_thread():
        # Ray has put its own there, which dumps a stack; a stopped job should end as by Ctrl-C
        signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield _describe_cluster(address)
    finally:
        ray.shutdown()


class Dispatcher:
    """Workers of one kind, and what they are at."""

    def __init__(self, store_url: str, digits: Digits, resources: Resources) -> None:
        self._store_url = store_url
        self._digits = ray.put(digits)  # once for all workers
        self._resources = resources
        options: dict[str, Any] = {"max_restarts": 0, "max_task_retries": 0}
        options["concurrency_groups"] = {"control": 1}
        self._class: Any = ray.remote(**options)(Worker)
        self._workers: list[Any] = []
        self._running: dict[Any, tuple[Any, Start, str]] = {}  # ref: worker, what, attempt

    def start(self, shards: int) -> list[dict[str, Any]]:
        """Starts the workers, no more than there are shards; returns what each says it is.

        InputError if the cluster has no room for one, or a worker cannot start.
        """
        count = min(workers_that_fit(ray.cluster_resources(), self._resources), shards)
        self._workers = [self._new_worker() for _ in range(count)]
        try:
            return ray.get(
                [worker.describe.remote() for worker in self._workers], timeout=START_TIMEOUT_S
            )
        except GetTimeoutError as error:
            raise InputError(
                f"{count} workers of {self._resources} did not start within {START_TIMEOUT_S} s; "
                "other jobs may hold the cluster: try fewer --workers, or later"
            ) from error
        except RayActorError as error:
            raise InputError(f"a worker cannot start: {_cause(error)}") from error

    def run(
        self,
        sweep: str,
        shards: Sequence[Shard],
        is_committed: Callable[[str], bool],
        tell: Callable[[Event], None],
    ) -> int:
        """Runs until every shard has a commit or is quarantined; returns how many are that.

        shards        in the order to start them in
        is_committed  by shard id; asked before each start, for another driver may be at work
        tell          hears every event, and `Running` about twice a second
        """
        finished, failures = set[str](), list[Failure]()
        idle = list(self._workers)
        while True:
            while idle and (start := self._next(shards, finished, failures)):
                if is_committed(start.shard.shard_id):
                    finished.add(start.shard.shard_id)
                    tell(Finished(start.shard, "elsewhere", 0.0))
                else:
                    self._start(idle.pop(), sweep, start)
            if not self._running:
                return len(shards) - len(finished)
            ready, _ = ray.wait(list(self._running), num_returns=1, timeout=POLL_S)
            for ref in ready:
                worker, start, attempt_id = self._running.pop(ref)
                event = self._outcome(ref, start.shard, attempt_id, failures)
                if isinstance(event, Finished):
                    finished.add(event.shard.shard_id)
                else:  # whatever went wrong may have left the worker's process in a bad state
                    ray.kill(worker)
                    worker = self._new_worker()
                idle.append(worker)
                tell(event)
            tell(self._progress())

    def _next(
        self, shards: Sequence[Shard], finished: Collection[str], failures: Collection[Failure]
    ) -> Start | None:
        running = {start.shard.shard_id for _, start, _ in self._running.values()}
        return next_start(shards, finished, running, failures)

    def _new_worker(self) -> Any:
        needs = self._resources
        options = self._class.options(num_cpus=needs.cpus, num_gpus=needs.gpus)
        return options.remote(self._digits, self._store_url, needs.device, int(needs.cpus))

    def _start(self, worker: Any, sweep: str, start: Start) -> None:
        attempt_id = uuid.uuid4().hex[:12]
        ref = worker.run.remote(
            sweep,
            start.shard.shard_id,
            attempt_id,
            start.shard.trials,
            start.max_width,
        )
        self._running[ref] = (worker, start, attempt_id)

    def _outcome(
        self, ref: Any, shard: Shard, attempt_id: str, failures: list[Failure]
    ) -> Finished | Failed:
        try:
            report = ray.get(ref)
            return Finished(shard, report["outcome"], report["wall_seconds"])
        except RayError as error:
            kind = _kind(error)
            failures.append(Failure(shard.shard_id, kind))
            return Failed(
                shard=shard,
                attempt_id=attempt_id,
                kind=kind,
                error=_cause(error),
                traceback="".join(traceback.format_exception(error)),
                quarantined=is_quarantined(shard.shard_id, failures),
            )

    def _progress(self) -> Running:
        """Asks the workers at work. A lost one does not answer; its run will say so."""
        asked = {
            worker.progress.remote(): (start, a) for worker, start, a in self._running.values()
        }
        shares: dict[str, float] = {}
        if not asked:
            return Running(shares)
        ready, _ = ray.wait(list(asked), num_returns=len(asked), timeout=POLL_S)
        for ref in ready:
            start, attempt_id = asked[ref]
            try:
                current, share = ray.get(ref)
            except RayError:
                continue
            if current == attempt_id:
                shares[start.shard.shard_id] = share
        return Running(shares)


def _kind(error: RayError) -> FailureKind:
    cause = error.cause if isinstance(error, RayTaskError) else None
    if isinstance(error, OutOfMemoryError) or isinstance(cause, MemoryError):
        return "memory"
    # torch's, on a GPU and on a CPU, without importing torch
    if type(cause).__name__ == "OutOfMemoryError" or "can't allocate memory" in str(cause):
        return "memory"
    return "error" if isinstance(error, RayTaskError) else "lost"


def _cause(error: BaseException) -> str:
    """What went wrong, in one line."""
    if isinstance(error, RayTaskError) and error.cause is not None:
        return f"{type(error.cause).__name__}: {_first_line(error.cause)}"
    inner = [line.strip() for line in str(error).splitlines() if line.strip()]
    named = [line for line in inner if line.startswith("pcworker.errors.")]
    return (
        named[-1].split(": ", 1)[-1] if named else f"{type(error).__name__}: {_first_line(error)}"
    )


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def _check_reachable(address: str) -> None:
    """Ray itself tries an address for minutes before it gives up."""
    host, _, port = address.rpartition(":")
    if not (host and port.isdigit() and "/" not in address):
        raise InputError(
            f"Ray address {address!r}: give auto, or HOST:PORT of the cluster's head (port 6379 as "
            "a rule; the address with http:// is the dashboard's)"
        )
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=REACH_S).close()
    except OSError as error:
        raise InputError(
            f"Ray at {address} cannot be reached: {error}; check --address, RAY_ADDRESS, and "
            "whether the cluster is up"
        ) from error


def _describe_cluster(address: str | None) -> str:
    nodes = [node for node in ray.nodes() if node["Alive"]]
    total = ray.cluster_resources()
    gpus = f", {total['GPU']:g} GPU(s)" if total.get("GPU") else ""
    what = "a local Ray on this machine" if address is None else f"the Ray cluster at {address}"
    return f"{what}: {len(nodes)} node(s), {total.get('CPU', 0):g} CPU core(s){gpus}"
