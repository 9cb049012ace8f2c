"""Tests of budgets. Oracle: by hand, from the workers that are ready at each look."""

import pytest

from cluster.driver.budget import Budget, Ledger
from cluster.driver.events import WorkerInfo
from cluster.nodes.prices import Prices
from cluster.nodes.resources import Resources
from pcworker.errors import InputError

ON_CPU, ON_GPU = (WorkerInfo("host", 1, "n", device) for device in ("cpu: x", "cuda: y"))
PRICES = Prices(gpu=3.0, core=0.5)
NEEDS = Resources(workers=2, cpus=2, gpus=1, device="auto", cpu_workers=3)


def ledger(budget: Budget, needs: Resources = NEEDS) -> Ledger:
    return Ledger(budget, PRICES, needs, started=1000.0)


def test_hours_count_from_the_start_of_the_run() -> None:
    book = ledger(Budget(hours=2.0))
    assert book.look(1000.0 + 7199.0, []) is None
    assert book.look(1000.0 + 7200.0, []) == "--max-hours 2 is reached"


def test_the_cost_is_that_of_the_workers_that_were_ready() -> None:
    """A GPU worker costs 4 for an hour, and a CPU worker beside it 1."""
    book = ledger(Budget(cost=13.0))
    assert book.look(1000.0 + 3600.0, [ON_GPU, ON_GPU]) is None  # nothing was ready before
    assert book.look(1000.0 + 2 * 3600.0, [ON_GPU, ON_GPU]) is None  # 8
    assert book.look(1000.0 + 3 * 3600.0, [ON_GPU]) is None  # 12
    assert book.look(1000.0 + 3.5 * 3600.0, [ON_CPU]) is None  # 12.5
    assert book.look(1000.0 + 4 * 3600.0, [ON_CPU]) == "--max-cost 13 is reached"


def test_workers_without_gpus_cost_their_cores() -> None:
    book = ledger(Budget(cost=1.0), Resources(workers=1, cpus=4, gpus=0, device="cpu"))
    assert book.look(1000.0, [ON_CPU]) is None
    assert book.look(1000.0 + 1799.0, [ON_CPU]) is None
    assert book.look(1000.0 + 1801.0, [ON_CPU]) == "--max-cost 1 is reached"


def test_without_a_limit_nothing_is_reached() -> None:
    assert ledger(Budget()).look(1e9, [ON_GPU]) is None


@pytest.mark.parametrize("limit", [0.0, -1.0, float("nan"), float("inf")])
def test_a_limit_is_a_finite_number_greater_than_0(limit: float) -> None:
    with pytest.raises(InputError, match=r"--max-hours .*: give a finite number greater than 0"):
        Budget(hours=limit)
    with pytest.raises(InputError, match=r"--max-cost .*: give a finite number greater than 0"):
        Budget(cost=limit)
