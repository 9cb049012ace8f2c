"""Fixtures that many tests use, and the state of the process with which every test begins."""

from collections.abc import Iterator

import process_state
import pytest
import torch
from seaweed import Seaweed, seaweed

from pcworker.data.mnist import Digits, load_digits
from pcworker.training.engine import Engine

process_state.begin()


@pytest.fixture(autouse=True)
def _state_of_a_test_is_its_own() -> Iterator[None]:
    with process_state.kept():
        yield


@pytest.fixture(autouse=True, scope="module")
def _state_of_a_files_fixtures_is_its_own() -> Iterator[None]:
    with process_state.kept():
        yield


@pytest.fixture(scope="session")
def digits() -> Digits:
    """All of MNIST."""
    return load_digits(None)


@pytest.fixture(scope="session")
def cpu() -> torch.device:
    """The CPU, with one thread and deterministic algorithms as in a worker."""
    return torch.device("cpu")


@pytest.fixture(scope="session")
def engine(digits: Digits, cpu: torch.device) -> Engine:
    """An engine on all digits."""
    return Engine(digits, cpu)


@pytest.fixture(scope="session")
def small_engine(digits: Digits, cpu: torch.device) -> Engine:
    """An engine on the first 1,000 training digits and the first 500 test digits."""
    train, test = slice(0, 1000), slice(0, 500)
    return Engine(
        Digits(
            digits.train_images[train],
            digits.train_labels[train],
            digits.test_images[test],
            digits.test_labels[test],
        ),
        cpu,
    )


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Seaweed]:
    """An S3 server for the tests of a file. The environment tells boto3 where it is."""
    with seaweed(tmp_path_factory.mktemp("seaweed")) as server, pytest.MonkeyPatch.context() as to:
        for name, value in server.server.environment().items():
            to.setenv(name, value)
        yield server
