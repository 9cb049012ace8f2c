"""Tests that a question, asked at any moment, is answered with whole shards and with nothing else.

Meanwhile workers commit shards, lose races and die half-way, and collectors compact and write
tables. Attempts that lose have other results, so one row of theirs would show.
"""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from buckets import entered, fresh_url
from builders import commit
from many_commits import ATTEMPT, NAME, TRIALS, commit_many, plan_of_many
from seaweed import Seaweed

from cluster.query.session import Session
from cluster.query.views import Asked
from cluster.results.collect import collect, write_tables
from cluster.results.compaction.choice import FEWEST
from cluster.sweeps.plan import Plan
from cluster.sweeps.stored import store_plan
from jobs.notebook import results
from pcworker.store.local import LocalStore
from pcworker.store.store import Store, open_store

WRONG = 0.125
"""By so much the results of attempts that lose differ."""
QUESTION = """
    SELECT shard_id, attempt_id, count(DISTINCT trial_id) AS trials, count(*) AS epochs,
           min(test_error) AS least, max(test_error) AS most, any_value(weights) AS weights
    FROM trials JOIN epochs USING (trial_id)
    JOIN (SELECT trial_id, count(*) AS weights FROM weights GROUP BY ALL) USING (trial_id)
    GROUP BY shard_id, attempt_id
"""
WHOLE = {
    "attempt_id": ATTEMPT,
    "trials": TRIALS,
    "epochs": TRIALS,
    "least": 0.5,
    "most": 0.5,
    "weights": 2,
}
"""What is known of every shard."""


def work(store: Store, plan: Plan) -> None:
    """Commits all shards. Each also has an attempt that died half-way, and one that came second."""
    for shard in plan.shards:
        store.put(plan.keys.data(shard.shard_id, "half", "trials"), b"PAR1 and then nothing")
        commit_many(store, plan, [shard])
        commit(store, plan, shard, lambda trial: WRONG, attempt="second")


def shards_now(session: Session) -> set[str]:
    """Asks, checks that the answer holds whole shards, and returns which."""
    rows = session.ask(QUESTION).to_pylist()
    found = [row.pop("shard_id") for row in rows]
    assert all(row == WHOLE for row in rows), rows
    assert len(set(found)) == len(found)
    return set(found)


def repeat(action: Callable[[], object], until: Callable[[], bool]) -> None:
    while not until():
        action()


def asked_meanwhile(store: Store, shards: int) -> list[int]:
    """Asks while shards are committed and collected. Returns how many shards each answer held."""
    plan = plan_of_many(shards)
    store_plan(store, plan, {})
    session, before, counts = Session(store, [Asked((plan,))]), set[str](), []

    def ask() -> None:
        nonlocal before
        now = shards_now(session)
        assert before <= now  # What was there once stays.
        before = now
        counts.append(len(now))

    ask()
    with ThreadPoolExecutor(2) as pool:
        working = pool.submit(work, store, plan)
        collecting = pool.submit(
            repeat, lambda: write_tables(store, collect(store, [plan])), working.done
        )
        repeat(ask, working.done)
        working.result()
        collecting.result()
    ask()
    return counts


def test_answers_hold_whole_shards_while_a_sweep_runs(tmp_path: Path) -> None:
    store, shards = LocalStore(tmp_path), FEWEST + 20
    counts = asked_meanwhile(store, shards)
    assert (counts[0], counts[-1]) == (0, shards)
    assert len(set(counts)) > 3
    assert store.list(plan_of_many(shards).keys.compactions)
    write_tables(store, collect(store, [plan_of_many(shards)]))
    assert len(results(str(tmp_path), NAME).sql("SELECT DISTINCT shard_id FROM trials")) == shards


def test_answers_from_a_bucket_hold_whole_shards(
    server: Seaweed, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = open_store(fresh_url(entered(server.server, monkeypatch)))
    counts = asked_meanwhile(store, 10)
    assert (counts[0], counts[-1]) == (0, 10)
