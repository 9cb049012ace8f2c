"""Tests of the dispatcher's loop without Ray: failing shards, other drivers, failing nodes.

Most tests use the pool of this process, whose worker is real, on a few hundred made-up digits. Many
nodes, and workers that die, are played by a pool that follows a script. `test_on_ray` tests such
workers with a real Ray.
"""

import bdb
import os
import re
import socket
import threading
from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from builders import shard_result
from dispatching import (
    Known,
    Makes,
    commit_of,
    commit_path,
    dispatched,
    dispatcher,
    files,
    of,
    only_a_plan,
    small_plan,
)
from made_up import made_up_digits, work

from cluster.driver.budget import Budget
from cluster.driver.decide import LIMITS, STREAK, Start
from cluster.driver.dispatch import Ending
from cluster.driver.events import (
    AtWork,
    Event,
    Failed,
    Finished,
    Joined,
    Running,
    Suspended,
    Trouble,
    WorkerInfo,
)
from cluster.driver.failures import Failure, FailureKind
from cluster.driver.pools.hands import Hand, Try, vacancies_of
from cluster.driver.pools.in_process import InProcessPool
from cluster.driver.pools.pool import Ended, Progress, Vacancy
from cluster.sweeps.plan import Plan, Shard, make_plan
from cluster.sweeps.stored import store_plan
from cluster.sweeps.sweep import Cell, declare
from jobs.mnist_ablation.experiment import ABLATION, ablation_engine
from pcworker.data.mnist import Digits
from pcworker.errors import DataError, InputError, UnavailableError
from pcworker.store.local import LocalStore
from pcworker.training.checkpoint import Checkpoint
from pcworker.training.results import ShardResult
from pcworker.trials.configuration import configuration
from pcworker.trials.trial import Trial
from pcworker.worker import Halted, Report


def pool_of(
    folder: Path, plan: Plan, digits: Digits | None = None, **changes: Any
) -> InProcessPool:
    """Stores the plan in the folder. Returns a pool of this process for it."""
    store = LocalStore(folder)
    store_plan(store, plan, {})
    return InProcessPool(work(store, plan.name, **changes), digits or made_up_digits())


def run(
    folder: Path, plan: Plan, *, done: tuple[str, ...] = (), **changes: Any
) -> tuple[int, list[Any]]:
    """Runs the plan in this process and returns what `dispatched` does. `changes` are values of the
    work that are not the usual ones."""
    return dispatched(pool_of(folder, plan, **changes), plan, done=done)


# ---------------------------------------------------------------- one worker, in this process


def test_every_shard_is_committed_and_told_of(tmp_path: Path) -> None:
    plan = small_plan("784-16-10", "784-32-10")
    quarantined, events = run(tmp_path, plan)
    assert quarantined == 0
    finished = of(Finished, events)
    assert [event.shard for event in finished] == list(plan.shards)
    assert {event.outcome for event in finished} == {"committed"}
    for shard in plan.shards:
        trials = [trial.trial_id for trial in shard.trials]
        assert sorted(commit_of(tmp_path, plan, shard)["trial_ids"]) == sorted(trials)
    assert of(Failed, events) == []


def test_the_worker_of_this_process_says_what_it_is(tmp_path: Path) -> None:
    [joined] = pool_of(tmp_path, small_plan("784-16-10")).start(1)
    assert isinstance(joined, Joined)
    assert joined.worker.hostname == socket.gethostname()
    assert joined.worker.device.startswith("cpu: ")
    assert joined.worker.device.endswith("1 thread(s)")
    assert joined.worker.pid == os.getpid()
    assert only_a_plan(tmp_path)


def test_where_everything_is_committed_nothing_is_started(tmp_path: Path) -> None:
    plan = small_plan("784-16-10", "784-32-10")
    done = tuple(shard.shard_id for shard in plan.shards)
    quarantined, events = run(tmp_path, plan, done=done)
    assert quarantined == 0
    assert [event.outcome for event in of(Finished, events)] == ["elsewhere", "elsewhere"]
    assert only_a_plan(tmp_path)


def test_a_sweep_that_another_driver_has_just_finished_needs_no_worker(tmp_path: Path) -> None:
    pool = pool_of(tmp_path, small_plan("784-16-10"))
    assert pool.start(0) == []
    assert dispatcher(pool, lambda event: None).run([], Known()) == Ending(())
    assert pool.workers == []


def test_only_what_has_no_commit_is_run(tmp_path: Path) -> None:
    plan = small_plan("784-16-10", "784-32-10")
    first, second = plan.shards
    _, events = run(tmp_path, plan, done=(first.shard_id,))
    finished = of(Finished, events)
    assert [event.shard for event in finished] == [first, second]
    assert [event.outcome for event in finished] == ["elsewhere", "committed"]
    assert not commit_path(tmp_path, plan, first).exists()


def test_a_shard_that_always_fails_is_quarantined_and_the_others_are_done(tmp_path: Path) -> None:
    cells = [
        Cell("rule", configuration(network=network, rule="Z-IL"), 1.0)
        for network in ("784-16-10", "100-16-10")
    ]
    plan = make_plan(ABLATION, declare(cells, seeds=[1]), "poisoned")
    [poisoned] = (s for s in plan.shards if s.trials[0].configuration.network == "784-16-10")
    [sound] = (s for s in plan.shards if s is not poisoned)
    quarantined, events = run(tmp_path, plan, digits=made_up_digits(pixels=100))
    assert quarantined == 1
    failed = of(Failed, events)
    assert {event.shard for event in failed} == {poisoned}
    assert [event.kind for event in failed] == ["error"] * 3
    assert [event.quarantined for event in failed] == [False, False, True]
    assert len({event.attempt_id for event in failed}) == 3
    for event in failed:
        assert re.match(r"(Runtime|Value)Error: .*784", event.error)
        assert "\n" not in event.error
        assert "pcworker/worker.py" in event.traceback
        assert "pcworker/training/engine.py" in event.traceback
    assert not commit_path(tmp_path, plan, poisoned).exists()
    assert commit_path(tmp_path, plan, sound).exists()


def test_after_a_quarantine_another_sweep_runs_in_the_same_process(tmp_path: Path) -> None:
    plan = small_plan("784-16-10")
    assert run(tmp_path, plan, digits=made_up_digits(pixels=100))[0] == 1
    quarantined, events = run(tmp_path, plan)  # another submission tries it again
    assert quarantined == 0
    assert commit_path(tmp_path, plan, plan.shards[0]).exists()
    assert of(Failed, events) == []


@pytest.mark.parametrize(("drift", "outcome"), [(0.0, "lost"), (0.125, "differs")])
def test_who_loses_the_race_for_a_commit_compares_its_results_with_those_there(
    tmp_path: Path, drift: float, outcome: str
) -> None:
    plan = small_plan("784-16-10", "784-32-10")

    class Drifts(Makes):
        def run(self, trials: Sequence[Trial], **_: Any) -> ShardResult:
            return shard_result(trials, lambda trial: drift)

    run(tmp_path, plan, make_engine=Makes(lambda trials, width: None))
    before = {shard: commit_path(tmp_path, plan, shard).read_bytes() for shard in plan.shards}
    engine = Drifts(lambda trials, width: None)
    quarantined, events = run(tmp_path, plan, make_engine=engine)  # as if both had begun together
    assert quarantined == 0
    assert [event.outcome for event in of(Finished, events)] == [outcome, outcome]
    for shard, content in before.items():
        assert commit_path(tmp_path, plan, shard).read_bytes() == content


def test_a_shard_without_memory_is_run_in_stacks_of_half_the_width(tmp_path: Path) -> None:
    plan = small_plan("784-16-10")
    [shard] = plan.shards
    widths: list[int | None] = []

    def act(trials: Sequence[Trial], width: int | None) -> None:
        widths.append(width)
        if (width or len(trials)) > 1:
            raise MemoryError

    quarantined, events = run(tmp_path, plan, make_engine=Makes(act))
    assert quarantined == 0
    assert len(shard.trials) == 4
    assert widths == [None, 2, 1]
    assert [event.kind for event in of(Failed, events)] == ["memory", "memory"]


def test_a_failed_attempt_is_continued_from_its_checkpoint_to_the_same_bits(
    tmp_path: Path,
) -> None:
    plan = small_plan("784-16-10", epochs=3)
    [shard] = plan.shards
    failed_once: list[int] = []

    class FailsOnce:
        def __init__(self, digits: Any, device: Any) -> None:
            self._engine = ablation_engine(digits, device)

        def run(self, trials: Any, *, save: Callable[[Checkpoint], None], **rest: Any) -> Any:
            def fail(checkpoint: Checkpoint) -> None:
                save(checkpoint)
                if not failed_once:
                    failed_once.append(checkpoint.epoch)
                    raise OSError("once")

            return self._engine.run(trials, save=fail, **rest)

    _, events = run(tmp_path / "failed", plan, make_engine=FailsOnce)
    [failed], [finished] = of(Failed, events), of(Finished, events)
    assert (failed.kind, failed.error, failed_once) == ("error", "OSError: once", [1])
    assert (finished.outcome, finished.resumed_from) == ("committed", 1)
    run(tmp_path / "undisturbed", plan)
    digests = {
        commit_of(tmp_path / name, plan, shard)["result_digest"]
        for name in ("failed", "undisturbed")
    }
    assert len(digests) == 1


class HaltsItself(InProcessPool):
    """Its first two workers are halted as soon as they have begun an attempt."""

    waits = 0

    def wait(self, meanwhile: Callable[[], None]) -> list[Ended]:
        self.waits += 1

        def then() -> None:
            meanwhile()
            if self.waits <= 2:
                self.halt(self.workers)

        return super().wait(then)


def test_a_halted_worker_ends_inside_an_epoch_and_the_next_one_goes_on_to_the_same_bits(
    tmp_path: Path,
) -> None:
    """The first look at the weights is after one update, the next one at the epoch's end."""
    plan = small_plan("784-16-10", epochs=2)
    [shard] = plan.shards
    store = LocalStore(tmp_path / "halted")
    store_plan(store, plan, {})
    pool = HaltsItself(work(store, plan.name), made_up_digits())
    quarantined, events = dispatched(pool, plan)
    assert (quarantined, of(Failed, events)) == (0, [])
    first, second = of(Suspended, events)
    assert (first.shard, first.reached, second.reached) == (shard, 1 / 20, 1.0)
    [finished] = of(Finished, events)
    assert (finished.outcome, finished.resumed_from) == ("committed", second.reached)
    run(tmp_path / "undisturbed", plan)
    digests = {
        commit_of(tmp_path / name, plan, shard)["result_digest"]
        for name in ("halted", "undisturbed")
    }
    assert len(digests) == 1
    assert not [name for name in files(tmp_path / "halted") if "checkpoint" in name]


def test_an_idle_worker_that_is_halted_is_gone_at_once(
    tmp_path: Path,
) -> None:
    pool = pool_of(tmp_path, small_plan("784-16-10"))
    [joined] = pool.start(1)
    pool.halt([replace(joined.worker, pid=-1)])
    assert pool.workers == [joined.worker]
    pool.halt(pool.workers)
    assert pool.workers == []


def test_a_worker_whose_engine_keeps_nothing_goes_on_to_its_end(tmp_path: Path) -> None:
    plan = small_plan("784-16-10")
    store = LocalStore(tmp_path)
    store_plan(store, plan, {})
    pool = HaltsItself(work(store, plan.name, checkpoint_every=0), made_up_digits())
    _, events = dispatched(pool, plan)
    assert of(Suspended, events) == of(Failed, events) == []
    assert len(of(Finished, events)) == 1


def test_a_store_in_trouble_is_no_fault_of_the_shard(tmp_path: Path) -> None:
    plan = small_plan("784-16-10")
    troubles = [UnavailableError("it does not answer")] * (LIMITS["error"] + 1)

    def act(trials: Sequence[Trial], width: int | None) -> None:
        if troubles:
            raise troubles.pop()

    quarantined, events = run(tmp_path, plan, make_engine=Makes(act))
    assert quarantined == 0
    assert {event.kind for event in of(Failed, events)} == {"store"}


def test_broken_data_end_the_driver(tmp_path: Path) -> None:
    def act(trials: Sequence[Trial], width: int | None) -> None:
        raise DataError("an image is broken")

    with pytest.raises(DataError, match="an image is broken"):
        run(tmp_path, small_plan("784-16-10"), make_engine=Makes(act))


@pytest.mark.parametrize("stop", [KeyboardInterrupt, bdb.BdbQuit])
def test_an_interruption_or_the_end_of_a_debugger_is_no_failure_of_the_shard(
    tmp_path: Path, stop: type[BaseException]
) -> None:
    plan = small_plan("784-16-10")

    def act(trials: Sequence[Trial], width: int | None) -> None:
        raise stop

    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, plan, make_engine=Makes(act))
    assert only_a_plan(tmp_path)


def test_a_trial_runs_in_the_main_thread_where_a_debugger_can_stop(tmp_path: Path) -> None:
    threads: list[threading.Thread] = []

    def act(trials: Sequence[Trial], width: int | None) -> None:
        threads.append(threading.current_thread())

    run(tmp_path, small_plan("784-16-10"), make_engine=Makes(act))
    assert threads == [threading.main_thread()]


def test_a_worker_that_cannot_write_to_the_store_says_so_before_any_training(
    tmp_path: Path,
) -> None:
    (tmp_path / "file").write_text("")
    pool = InProcessPool(work(LocalStore(tmp_path / "file" / "store"), "a"), made_up_digits())
    with pytest.raises(InputError, match="Not a directory") as said:
        pool.start(1)
    assert str(said.value).startswith(f"on {socket.gethostname()}: store ")


def test_a_worker_that_does_not_see_the_drivers_store_says_so(tmp_path: Path) -> None:
    pool = InProcessPool(work(LocalStore(tmp_path), "a"), made_up_digits())
    with pytest.raises(InputError, match="holds no plan of sweep a: it is not the store that"):
        pool.start(1)


# ---------------------------------------------------------------- many nodes, by a script

END = Report("committed", 1.0, 0, 100, 0.1)
"""The end of an attempt that went well."""


def failure(kind: FailureKind) -> Failure:
    return Failure(kind, "no", "Traceback ...")


class ScriptedPool:
    """A pool that has one worker on each of some nodes. Each `wait` ends all running attempts. In
    the place of a worker that has failed there is another one.

    `script` takes the name of the node, the shard, and the number of earlier attempts of the shard.
    It returns how the attempt ends, and the share of the work that is done by then.
    """

    def __init__(
        self,
        nodes: Sequence[str],
        script: Callable[[str, Shard, int], tuple[Report | Halted | Failure, float]],
        *,
        places: int = 1,
        slow: Collection[str] = (),
    ) -> None:
        """`slow` names the nodes whose workers are CPU workers beside GPU workers."""
        self.workers = [WorkerInfo(f"host-{node}", 1, node, "cpu", places) for node in nodes]
        self._slow = slow
        self._script = script
        self._runs: dict[str, tuple[Start, WorkerInfo, Report | Halted | Failure, float]] = {}
        self.submitted: list[tuple[str, str]] = []
        """The node and the shard id of each submission, in order."""
        self.asked: list[int] = []
        """The number of shards of each call of `resize`, in order."""

    @property
    def vacancies(self) -> list[Vacancy]:
        return vacancies_of(self._hand(worker) for worker in self.workers)

    def start(self, shards: int, beat: Callable[[], None] = lambda: None) -> list[Joined | Trouble]:
        return [*map(Joined, self.workers)]

    def resize(self, shards: int) -> None:
        self.asked.append(shards)

    def submit(self, worker: WorkerInfo, attempt_id: str, start: Start) -> None:
        assert self._hand(worker).vacant
        shard = start.shard
        before = sum(shard_id == shard.shard_id for _, shard_id in self.submitted)
        self._runs[attempt_id] = (start, worker, *self._script(worker.node_id, shard, before))
        self.submitted.append((worker.node_id, shard.shard_id))

    def wait(self, meanwhile: Callable[[], None]) -> list[Ended]:
        meanwhile()
        ended = [Ended(name, *run) for name, (_, *run) in self._runs.items()]
        self._runs = {}
        failed = {one.worker for one in ended if isinstance(one.result, Failure)}
        self.workers = [replace(w, pid=w.pid + 1) if w in failed else w for w in self.workers]
        return ended

    def progress(self) -> dict[str, Progress]:
        return {name: Progress(share) for name, (_, _, _, share) in self._runs.items()}

    def give_up(self, attempt_id: str, trouble: str) -> Ended:
        _, worker, _, share = self._runs.pop(attempt_id)
        return Ended(attempt_id, worker, Failure("hung", trouble, ""), share)

    def halt(self, workers: Collection[WorkerInfo]) -> None:
        self._runs = {
            name: (start, who, Halted(0.5, 1.0) if who in workers else result, share)
            for name, (start, who, result, share) in self._runs.items()
        }

    def avoid(self, suspects: Collection[str]) -> set[str]:
        fresh = {worker.node_id for worker in self.workers} & set(suspects)
        self.workers = [worker for worker in self.workers if worker.node_id not in fresh]
        return fresh

    def _hand(self, worker: WorkerInfo) -> Hand:
        here = [(name, start) for name, (start, who, *_) in self._runs.items() if who == worker]
        runs = [Try(name, start.alone) for name, start in here]
        return Hand(None, worker, None, worker.node_id in self._slow, runs)


NETWORKS = ("784-8-10", "784-16-10", "784-24-10", "784-32-10", "784-40-10", "784-48-10")


def test_every_worker_gets_a_shard_in_the_order_of_the_plan() -> None:
    plan = small_plan(*NETWORKS)
    pool = ScriptedPool("ab", lambda node, shard, before: (END, 1.0))
    quarantined, events = dispatched(pool, plan)
    assert quarantined == 0
    assert pool.submitted == list(zip("ababab", [s.shard_id for s in plan.shards], strict=True))
    assert [event.worker.node_id for event in of(Finished, events)] == list("ababab")


def test_a_worker_with_places_gets_as_many_shards_the_longest_ones_first() -> None:
    plan = small_plan(*NETWORKS)
    pool = ScriptedPool("ab", lambda node, shard, before: (END, 1.0), places=2)
    assert dispatched(pool, plan)[0] == 0
    assert pool.submitted == list(zip("ababab", [s.shard_id for s in plan.shards], strict=True))


@pytest.mark.parametrize("longest_first", [True, False])
def test_a_cpu_worker_beside_gpu_workers_takes_the_shortest_shards(longest_first: bool) -> None:
    plan = small_plan(*NETWORKS)
    pool = ScriptedPool(["cpu", "gpu"], lambda node, shard, before: (END, 1.0), slow=["cpu"])
    shards = plan.shards if longest_first else plan.shards[::-1]
    run = dispatcher(pool, lambda event: None).run
    assert run(shards, Known(), longest_first=longest_first) == Ending(())
    given = [int(shard_id.split("-")[0]) for _, shard_id in pool.submitted]
    assert [node for node, _ in pool.submitted] == ["gpu", "cpu"] * 3
    assert given == ([0, 5, 1, 4, 2, 3] if longest_first else [5, 4, 3, 2, 1, 0])


def test_a_shard_that_is_to_be_alone_waits_for_an_empty_worker() -> None:
    """The first shard runs out of memory when anything is beside it."""
    plan = small_plan(*NETWORKS[:3])
    first = plan.shards[0].shard_id
    together: list[set[str]] = []

    def script(node: str, shard: Shard, before: int) -> tuple[Report | Failure, float]:
        fails = shard.shard_id == first and not before
        return (failure("memory"), 0.5) if fails else (END, 1.0)

    class Records(ScriptedPool):
        def wait(self, meanwhile: Callable[[], None]) -> list[Ended]:
            together.append({start.shard.shard_id for start, *_ in self._runs.values()})
            return super().wait(meanwhile)

    assert dispatched(Records("a", script, places=2), plan)[0] == 0
    assert together == [{s.shard_id for s in plan.shards[:2]}, {plan.shards[2].shard_id}, {first}]


def test_what_runs_is_told_with_its_share_and_its_host() -> None:
    plan = small_plan(*NETWORKS[:2])
    pool = ScriptedPool("ab", lambda node, shard, before: (END, {"a": 0.25, "b": 0.5}[node]))
    _, events = dispatched(pool, plan)
    first, second = (shard.shard_id for shard in plan.shards)
    shards = {first: AtWork(0.25, "host-a"), second: AtWork(0.5, "host-b")}
    assert of(Running, events) == [Running(shards, tuple(pool.workers))]


def test_a_shard_that_fails_here_and_is_committed_elsewhere_is_not_tried_again() -> None:
    plan = small_plan(*NETWORKS[:2])
    first = plan.shards[0].shard_id
    pool = ScriptedPool(
        "a",
        lambda node, shard, before: ((failure("error") if shard.shard_id == first else END), 1.0),
    )
    events: list[Event] = []
    record = Known()

    def tell(event: Event) -> None:
        events.append(event)
        if isinstance(event, Running) and not record.elsewhere:
            record.elsewhere = frozenset([first])  # while it runs here

    assert dispatcher(pool, tell).run(plan.shards, record) == Ending(())
    assert [shard_id for _, shard_id in pool.submitted].count(first) == 1
    assert {event.shard.shard_id: event.outcome for event in of(Finished, events)}[
        first
    ] == "elsewhere"


def test_when_the_budget_is_used_up_what_runs_is_halted_and_nothing_is_started() -> None:
    budget = Budget(hours=1e-9)
    plan = small_plan(*NETWORKS[:3])
    pool = ScriptedPool("ab", lambda node, shard, before: (END, 1.0))
    events: list[Event] = []
    ending = dispatcher(pool, events.append, budget).run(plan.shards, Known())
    assert ending.left == plan.shards
    assert ending.quarantined == ()
    assert ending.stopped is not None and ending.stopped.endswith("is reached")
    assert [shard_id for _, shard_id in pool.submitted] == [s.shard_id for s in plan.shards[:2]]
    assert [event.shard for event in of(Suspended, events)] == list(plan.shards[:2])
    [trouble] = of(Trouble, events)
    assert "halted, each with a checkpoint" in trouble.message


def test_a_budget_that_lasts_stops_nothing() -> None:
    plan = small_plan(*NETWORKS[:3])
    pool = ScriptedPool("ab", lambda node, shard, before: (END, 1.0))
    budget = Budget(hours=1.0, cost=1e9)
    assert dispatcher(pool, lambda event: None, budget).run(plan.shards, Known()) == Ending(())


def test_what_another_driver_commits_meanwhile_is_left_out() -> None:
    plan = small_plan(*NETWORKS[:3])
    pool = ScriptedPool("a", lambda node, shard, before: (END, 1.0))
    events: list[Event] = []
    record = Known()

    def tell(event: Event) -> None:
        """Another driver commits the last two shards while this one trains the first."""
        events.append(event)
        record.elsewhere = frozenset(shard.shard_id for shard in plan.shards[1:])

    assert dispatcher(pool, tell).run(plan.shards, record) == Ending(())
    outcomes = {event.shard: event.outcome for event in of(Finished, events)}
    assert list(outcomes.values()) == ["committed", "elsewhere", "elsewhere"]
    assert list(outcomes) == list(plan.shards)


def test_lost_workers_are_forgiven_as_long_as_each_gets_further_than_the_last() -> None:
    plan, times = small_plan("784-16-10"), 3 * LIMITS["lost"]

    def script(node: str, shard: Shard, before: int) -> tuple[Report | Failure, float]:
        return (failure("lost"), (before + 1) / 100) if before < times else (END, 1.0)

    quarantined, events = dispatched(ScriptedPool("a", script), plan)
    assert quarantined == 0
    assert len(of(Failed, events)) == times


def test_halted_attempts_never_count() -> None:
    plan, times = small_plan(*NETWORKS[:2]), 3 * LIMITS["lost"]

    def script(node: str, shard: Shard, before: int) -> tuple[Report | Halted, float]:
        return (Halted(0.5, 1.0), 0.0) if before < times else (END, 1.0)

    pool = ScriptedPool("ab", script)
    quarantined, events = dispatched(pool, plan)
    assert (quarantined, of(Failed, events), of(Trouble, events)) == (0, [], [])
    assert len(of(Suspended, events)) == 2 * times
    assert len(of(Finished, events)) == 2


def test_workers_that_are_lost_at_the_same_place_are_the_shards_fault() -> None:
    plan = small_plan("784-16-10")

    def script(node: str, shard: Shard, before: int) -> tuple[Report | Failure, float]:
        return failure("lost"), 0.0

    quarantined, events = dispatched(ScriptedPool("a", script), plan)
    assert quarantined == 1
    assert len(of(Failed, events)) == LIMITS["lost"]
    assert [event.quarantined for event in of(Failed, events)][-2:] == [False, True]


def test_no_worker_is_asked_for_on_behalf_of_shards_that_are_quarantined() -> None:
    plan = small_plan(*NETWORKS[:2])
    poisoned = plan.shards[0].shard_id

    def script(node: str, shard: Shard, before: int) -> tuple[Report | Failure, float]:
        return (failure("error"), 0.5) if shard.shard_id == poisoned else (END, 1.0)

    pool = ScriptedPool("a", script)
    assert dispatched(pool, plan)[0] == 1
    assert pool.asked == [2, 2, 1, 1, 0]


def test_a_node_that_fails_everything_is_named_and_gets_no_more_work() -> None:
    plan = small_plan(*NETWORKS)

    def script(node: str, shard: Shard, before: int) -> tuple[Report | Failure, float]:
        return (failure("error"), 0.5) if node == "sick" else (END, 1.0)

    pool = ScriptedPool(["sick", "well"], script)
    quarantined, events = dispatched(pool, plan)
    assert quarantined == 0
    assert {event.shard for event in of(Finished, events)} == set(plan.shards)
    assert len(of(Failed, events)) == STREAK
    assert [node for node, _ in pool.submitted].count("sick") == STREAK
    [trouble] = of(Trouble, events)
    assert trouble.message == (
        "host-sick (cpu, node sick) has failed its last 3 attempts while others succeed: it gets "
        "no more work"
    )
