"""Whether a store is fit for commits: many race for every key, and exactly one of them wins."""

import multiprocessing
import os
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.queues import Queue
from multiprocessing.synchronize import Barrier
from pathlib import Path

import pytest
from moto_server import moto_server
from seaweed import seaweed

from pcworker.store.store import open_store

pytestmark = pytest.mark.faults

KEYS = [f"shards/{k:02}/commit.json" for k in range(30)]
WRITERS = 8
SECONDS = 240


@contextmanager
def environment_and_url(kind: str, folder: Path) -> Iterator[tuple[dict[str, str], str]]:
    """What a process needs to open a fresh store of a kind."""
    if kind == "local":
        yield {}, str(folder / "store")
    elif kind == "seaweed":
        with seaweed(folder) as running:
            yield running.server.environment(), f"s3://{running.server.bucket}/conformance"
    else:
        with moto_server() as server:
            yield server.environment(), f"s3://{server.bucket}/conformance"


def content(me: int, key: str) -> bytes:
    return f"writer {me} has {key}".encode() * 50


def race(
    me: int,
    environment: dict[str, str],
    url: str,
    start: Barrier,
    answers: "Queue[tuple[int, list[bool]]]",
) -> None:
    """Tries for every key, each at the same moment as the other writers."""
    os.environ.update(environment)
    store = open_store(url)
    won = []
    for key in KEYS:
        start.wait(SECONDS)
        won.append(store.put_if_absent(key, content(me, key)))
    answers.put((me, won))


@pytest.mark.parametrize("kind", ["local", "seaweed", "moto"])
def test_of_8_processes_exactly_one_wins_each_of_30_keys(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spawn = multiprocessing.get_context("spawn")
    start, answers = spawn.Barrier(WRITERS), spawn.Queue()
    with environment_and_url(kind, tmp_path) as (environment, url):
        writers = [
            spawn.Process(target=race, args=(me, environment, url, start, answers), daemon=True)
            for me in range(WRITERS)
        ]
        for writer in writers:
            writer.start()
        heard = dict(answers.get(timeout=SECONDS) for _ in writers)
        for writer in writers:
            writer.join(SECONDS)
            assert writer.exitcode == 0
        answers.close()
        answers.join_thread()
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        store = open_store(url)
        for place, key in enumerate(KEYS):
            winners = [me for me in range(WRITERS) if heard[me][place]]
            assert len(winners) == 1, f"{key}: {winners}"
            assert store.get(key) == content(winners[0], key)
        assert store.list("shards/") == KEYS
