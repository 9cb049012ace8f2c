"""What tests of faults share: the oracle, which is one sweep without any fault, and a prefix of a
bucket, which a test reaches directly or through a proxy that fails."""

import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from faults import SHARDS, arguments, commits, here
from faulty_proxy import FaultyProxy, faulty_proxy
from seaweed import Seaweed

from pcworker.store.local import LocalStore
from pcworker.store.s3.s3 import S3Store


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


@pytest.fixture
def store(server: Seaweed, request: pytest.FixtureRequest) -> S3Store:
    """The test's own prefix in the bucket, past the proxy."""
    prefix = request.node.name.removeprefix("test_")
    return S3Store(f"s3://{server.server.bucket}/{prefix}", server.server.endpoint)


@pytest.fixture
def proxy(server: Seaweed) -> Iterator[FaultyProxy]:
    with faulty_proxy(server.server.endpoint) as proxy:
        yield proxy
