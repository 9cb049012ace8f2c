"""Tests of the method of the timing runs: the turns, the minibatches, the statistics of the times.

Oracles: an account of all calls with a clock that the calls move, closed forms, tensors of known
sizes.
"""

import gc
from collections import Counter
from collections.abc import Callable, Iterator

import pytest
import torch

from pcworker.clock.stopwatch import CpuStopwatch
from pcworker.clock.turns import ratios, spread, take_turns, time_loops, warm_up


class Account:
    """Makes rules that write down what they learn, and has a clock that each update moves by one
    second."""

    def __init__(self) -> None:
        self.entries: list[str] = []
        self.collecting: list[bool] = []
        self.seconds = 0

    def rule(self, name: str) -> Callable[[object], None]:
        def update(batch: object) -> None:
            self.entries.append(f"{name}{batch}")
            self.collecting.append(gc.isenabled())
            self.seconds += 1

        return update

    def milliseconds(self, work: Callable[[], object]) -> float:
        before = self.seconds
        work()
        self.entries.append("|")
        return 1000.0 * (self.seconds - before)


def test_rules_take_turns_and_learn_the_same_minibatches() -> None:
    account = Account()
    rules: list[Callable[[object], object]] = [account.rule(name) for name in "ABC"]
    reports: list[str] = []
    slow = rules.copy()
    slow[0] = lambda batch: (rules[0](batch), rules[0](batch))
    times = take_turns(account.milliseconds, slow, [(1, 2), (3, 4)], lambda: reports.append("turn"))
    *blocks, end = "".join(account.entries).split("|")
    assert sorted(blocks[:3]) == ["A1A1A2A2", "B1B2", "C1C2"]
    assert sorted(blocks[3:]) == ["A3A3A4A4", "B3B4", "C3C4"]
    assert end == ""
    assert times == [[2000.0, 2000.0], [1000.0, 1000.0], [1000.0, 1000.0]]
    assert reports == ["turn", "turn"]


def test_no_rule_always_follows_the_same_one() -> None:
    account, again = Account(), Account()
    for each in (account, again):
        take_turns(each.milliseconds, [each.rule(name) for name in "ABC"], [("",)] * 40)
    order = "".join(account.entries).replace("|", "")
    pairs = Counter(order[k : k + 2] for k in range(119))
    assert all(pairs[a + b] > 5 for a in "ABC" for b in "ABC" if a != b)
    assert account.entries == again.entries


def test_no_rule_is_hit_by_a_garbage_collection() -> None:
    account = Account()
    assert gc.isenabled()
    take_turns(account.milliseconds, [account.rule("A")], [(1,)])
    assert account.collecting == [False]
    assert gc.isenabled()

    def broken(batch: object) -> None:
        raise ValueError(batch)

    with pytest.raises(ValueError, match="1"):
        take_turns(account.milliseconds, [broken], [(1,)])
    assert gc.isenabled()


def test_loading_is_within_the_time_of_the_whole_loop_only() -> None:
    account = Account()

    def loader() -> Iterator[int]:
        for batch in range(100):
            account.entries.append("load")
            account.seconds += 10
            yield batch

    rules = [account.rule(name) for name in "AB"]
    loop = time_loops(account.milliseconds, rules, loader(), blocks=2, block=1, ahead=2)
    # Before a rule is timed, it uses up the minibatches that were loaded ahead of its turn.
    assert "".join(account.entries) == ("loadA0loadA1loadA2|loadA3|" + "loadB4loadB5loadB6|loadB7|")
    assert loop == [[11_000.0] * 2] * 2

    def turns() -> Iterator[list[int]]:
        batches = loader()
        for _ in range(2):
            yield [next(batches)]

    account.entries.clear()
    assert take_turns(account.milliseconds, rules, turns()) == [[1000.0] * 2] * 2
    first, second = "".join(account.entries).removeprefix("load").split("load")
    assert sorted(first.split("|")) == ["", "A0", "B0"]
    assert sorted(second.split("|")) == ["", "A1", "B1"]


def test_the_warm_up_is_not_timed_and_measures_the_memory_of_each_rules_first_update() -> None:
    account = Account()
    measured: list[int] = []

    def peak_bytes(work: Callable[[], object]) -> int:
        work()
        measured.append(len(account.entries))
        return 100 * len(measured)

    rules = [account.rule(name) for name in "AB"]
    assert warm_up(peak_bytes, rules, [1, 2, 3]) == [100, 200]
    assert "".join(account.entries) == "A1B1A2B2A3B3"
    assert measured == [1, 2]


def test_percentiles_are_interpolated_and_ratios_are_taken_turn_by_turn() -> None:
    found = spread([10.0, 0.0, 5.0, 1.0, 2.0, 3.0, 4.0, 6.0, 7.0, 8.0, 9.0])
    assert (found.p10, found.median, found.p90) == (1.0, 5.0, 9.0)
    assert spread([1.0, 2.0]).median == 1.5
    one = spread([3.0])
    assert (one.p10, one.median, one.p90) == (3.0, 3.0, 3.0)
    # If the machine is 10 times slower in the second turn, the ratio does not change.
    assert ratios([2.0, 20.0, 6.0], [1.0, 10.0, 2.0]) == [2.0, 2.0, 3.0]


MIB = 2**20


def mebibytes(count: int) -> torch.Tensor:
    return torch.zeros(count * MIB // 4)


def test_peak_bytes_are_those_of_the_tensors_that_are_there_at_once() -> None:
    """Closed form: first there are 4 + 4 MiB, then 4 + 8, so the peak is 12."""

    def work() -> None:
        first = mebibytes(4)
        second = mebibytes(4)
        del first
        third = mebibytes(8)
        del second, third

    kept = mebibytes(16)  # this was there before, and does not count
    assert CpuStopwatch().peak_bytes(work) == 12 * MIB
    assert len(kept)


def test_the_clock_runs_work_once_and_counts_in_milliseconds() -> None:
    """The time is at least the time that the work itself reads from the monotonic clock."""
    import time

    seen: list[float] = []

    def work() -> None:
        began = time.perf_counter()
        while time.perf_counter() - began < 0.005:
            pass
        seen.append(1000 * (time.perf_counter() - began))

    measured = CpuStopwatch().milliseconds(work)
    assert len(seen) == 1
    assert measured >= seen[0] >= 5.0


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")
def test_a_gpu_is_timed_by_its_events_and_its_own_memory() -> None:
    from pcworker.clock.stopwatch import stopwatch

    device = torch.device("cuda")
    watch, side = stopwatch(device), torch.ones(2048, 2048, device=device)
    few, many = (watch.milliseconds(lambda n=n: [side @ side for _ in range(n)]) for n in (1, 100))
    assert 0 < few < many
    assert watch.peak_bytes(lambda: torch.zeros(8 * MIB, device=device)) == 32 * MIB
