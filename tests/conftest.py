"""What the numeric tests share: the real digits, and engines on all or on some of them."""

from collections.abc import Iterator

import pytest
import torch
from seaweed import Seaweed, seaweed

from cluster.nodes.resources import ray_environment
from pcworker.data.mnist import Digits, load_digits
from pcworker.machine.device import prepare_device
from pcworker.training.engine import Engine

# Ray reads its variables when it is imported, which any file's tests may do in this process
ray_environment(None)


@pytest.fixture(scope="session")
def digits() -> Digits:
    """All of MNIST."""
    return load_digits(None)


@pytest.fixture(scope="session")
def cpu() -> torch.device:
    """One thread and deterministic algorithms, as in a worker."""
    return prepare_device("cpu", gpus=0, cpus=1)


@pytest.fixture(scope="session")
def engine(digits: Digits, cpu: torch.device) -> Engine:
    """On all digits."""
    return Engine(digits, cpu)


@pytest.fixture(scope="session")
def small_engine(digits: Digits, cpu: torch.device) -> Engine:
    """On the first 1,000 training digits and the first 500 test digits."""
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
    """An S3 server, and in the environment what boto3 needs to find it."""
    with seaweed(tmp_path_factory.mktemp("seaweed")) as server, pytest.MonkeyPatch.context() as to:
        for name, value in server.server.environment().items():
            to.setenv(name, value)
        yield server
