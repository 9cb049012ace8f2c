"""Writers that race for the keys of stores, each in a process of its own.

The processes import this module and no other one of the tests, so that they start soon.
"""

import multiprocessing
from collections.abc import Sequence
from multiprocessing.queues import Queue
from multiprocessing.synchronize import Barrier

from pcworker.store.store import open_store

SECONDS = 240
"""The longest that a writer waits for the others."""

Place = tuple[str, str | None]
"""A store's URL, and the S3 endpoint if it needs one."""


def content(writer: int, key: str) -> bytes:
    """The bytes that a writer writes under a key."""
    return f"writer {writer} has {key}".encode() * 50


def winners(places: Sequence[Place], keys: Sequence[str], writers: int) -> list[list[list[int]]]:
    """Lets that many processes race for every key of every store, all at the same moment.

    Returns, for each store and each key, the writers that were told that they have won.
    """
    spawn = multiprocessing.get_context("spawn")
    start, answers = spawn.Barrier(writers), spawn.Queue()
    processes = [
        spawn.Process(target=_race, args=(me, places, keys, start, answers), daemon=True)
        for me in range(writers)
    ]
    for process in processes:
        process.start()
    heard = dict(answers.get(timeout=SECONDS) for _ in processes)
    for process in processes:
        process.join(SECONDS)
        assert process.exitcode == 0
    answers.close()
    answers.join_thread()
    return [
        [[me for me in range(writers) if heard[me][place, key]] for key in keys]
        for place, _ in enumerate(places)
    ]


def _race(
    me: int,
    places: Sequence[Place],
    keys: Sequence[str],
    start: Barrier,
    answers: "Queue[tuple[int, dict[tuple[int, str], bool]]]",
) -> None:
    won = {}
    for place, (url, endpoint) in enumerate(places):
        store = open_store(url, endpoint)
        for key in keys:
            start.wait(SECONDS)
            won[place, key] = store.put_if_absent(key, content(me, key))
    answers.put((me, won))
