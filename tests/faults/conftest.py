"""The oracle of the tests of faults: one sweep without any fault, for all of them."""

import fcntl
import os
from pathlib import Path

import pytest
from faults import SHARDS, arguments, commits, here

from pcworker.store.local import LocalStore


@pytest.fixture(scope="session")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> LocalStore:
    """The store of the sweep after it has run without Ray and any fault. Tests only read it.

    Where several processes run the tests, one of them runs the sweep and the others wait for it.
    """
    mine = tmp_path_factory.getbasetemp()
    common = mine.parent if "PYTEST_XDIST_WORKER" in os.environ else mine
    store = LocalStore(common / "undisturbed")
    with Path(common, "undisturbed.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if len(commits(store)) < SHARDS:
            done = here(*arguments(store, "--local-debug"))
            assert done.code == 0, done.stderr
    assert len(commits(store)) == SHARDS
    return store
