"""The driver's clerk: it does all of the driver's traffic with the store while shards run.

Each of its duties has a thread of its own, so the loop that dispatches shards never waits for the
store, which may be away, or may take a request and never answer it.
"""

import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Any

from cluster.driver.events import Event, Failed, Running, Trouble
from cluster.driver.record.failure import failure_row
from cluster.driver.record.heartbeat import Heartbeat
from cluster.results.reading import done_shards
from cluster.sweeps.plan import Plan
from pcworker.errors import StoreError
from pcworker.plain import as_json
from pcworker.store.sealed import seal
from pcworker.store.store import Store

BEAT_S = 1.0
"""The seconds between two looks whether a sign of life is due."""
OTHERS_EVERY_S = 2.0
"""The seconds between two looks for what another driver has committed."""
OTHERS_TIMES = 10.0
"""The time between two looks is at least so many times the time that a look takes."""
COMPANY_S = 10.0
"""The seconds between two looks for other drivers."""
FAREWELL_S = 10.0
"""The longest time that an interrupted driver waits for the store."""


class Clerk:
    """Keeps a driver's record of one sweep. It is entered when the dispatch begins."""

    def __init__(self, opened: Store, store: Store, plan: Plan[Any]) -> None:
        """
        opened  the store, for what may fail and is done again later
        store   the same store, which waits during an outage, for what must not be lost
        """
        self._opened, self._store, self._plan = opened, store, plan
        self._messages: deque[Trouble] = deque()
        self.heartbeat = Heartbeat(opened, plan.name, lambda m: self._messages.append(Trouble(m)))
        self.elsewhere: frozenset[str] = frozenset()
        """The ids of the shards that have a commit, as far as it is known. It is looked up only
        while another driver is alive."""
        self._unwritten: deque[Failed] = deque()
        self._looked_for_company = -COMPANY_S
        self._company = False
        self._duties = (
            _Duty("signs of life", self._beat),
            _Duty("commits of others", self._look),
            _Duty("records of failures", self._write_records),
        )

    def __enter__(self) -> "Clerk":
        for duty in self._duties:
            duty.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        """Writes what is not written yet, and gives the last sign of life. An interrupted driver
        does not wait for the store longer than FAREWELL_S."""
        for duty in self._duties:
            duty.stop()
        self._duties[-1].join(None if kind is None else FAREWELL_S)
        last = threading.Thread(target=self.heartbeat.end, daemon=True)
        last.start()
        last.join(FAREWELL_S)
        if kind is None:
            self._require_well()

    @property
    def store_answers(self) -> bool:
        """False if the store has not taken a sign of life for some time."""
        return self.heartbeat.store_answers

    def hear(self, event: Event) -> None:
        """Takes in an event of the sweep. It does not wait for anything."""
        if isinstance(event, Running):
            self.heartbeat.tell(event)
        elif isinstance(event, Failed):
            self._unwritten.append(event)
            self._duties[-1].wake()

    def told(self) -> list[Trouble]:
        """Returns what the store has had to say since this was asked last.

        Raises what has ended a duty: StoreError if the store is in such trouble that a record of a
        failure could not be written.
        """
        self._require_well()
        return [self._messages.popleft() for _ in range(len(self._messages))]

    def _require_well(self) -> None:
        for duty in self._duties:
            if duty.error is not None:
                raise duty.error

    def _beat(self) -> float:
        self.heartbeat.beat()
        return BEAT_S

    def _look(self) -> float:
        """Looks for what other drivers have committed, if there is one."""
        began, had_company = time.monotonic(), self._company
        if began - self._looked_for_company >= COMPANY_S:
            self._looked_for_company = began
            self._company = bool(self.heartbeat.company())
        if self._company or had_company:  # One that has just ended may have committed more.
            try:
                self.elsewhere = frozenset(done_shards(self._opened, self._plan))
            except StoreError:  # A shard that runs twice costs time, and nothing else.
                self._company = True
                return COMPANY_S
        return max(OTHERS_EVERY_S, OTHERS_TIMES * (time.monotonic() - began))

    def _write_records(self) -> float | None:
        """Keeps a record of every failed attempt. If the store is in trouble that does not pass,
        the driver must end before more work is lost to it."""
        while self._unwritten:
            event = self._unwritten[0]
            if event.kind == "store":
                self._store.check()
            row = failure_row(self._plan, event)
            key = self._plan.keys.failure(row.shard_id, row.attempt_id)
            self._store.put(key, seal(as_json(row)))
            self._unwritten.popleft()
        return None


class _Duty:
    """Something that is done again and again, in a thread of its own, until it is stopped."""

    def __init__(self, name: str, work: Callable[[], float | None]) -> None:
        """`work` returns the seconds until it is due again; None: when this is woken."""
        self._work, self._awake, self._stopped = work, threading.Event(), False
        self.error: Exception | None = None
        """What has ended the thread too early."""
        # A thread that waits for a store's answer must not keep the process alive.
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        self._thread.start()

    def wake(self) -> None:
        """Makes the work due now."""
        self._awake.set()

    def stop(self) -> None:
        """Lets the work that is due be done once more, and no more after that."""
        self._stopped = True
        self._awake.set()

    def join(self, seconds: float | None) -> None:
        """Waits until the thread has ended, for so many seconds at most; None: for as long as it
        takes."""
        self._thread.join(seconds)

    def _run(self) -> None:
        while True:
            last = self._stopped
            try:
                pause = self._work()
            except Exception as error:  # The thread that dispatches raises it.
                self.error = error
                return
            if last:
                return
            self._awake.wait(pause)
            self._awake.clear()
