"""The engine of any_network beside a plain loop of torch.autograd + torch.optim.SGD."""

from collections.abc import Sequence
from typing import Any

import pytest
import torch
from torch import nn

from jobs.any_network.configuration import network_configuration
from jobs.any_network.engine import NetworkEngine
from jobs.any_network.measures import weight_distance
from jobs.any_network.tables import Trained
from pcworker.data.generators import image_order
from pcworker.data.mnist import Digits
from pcworker.data.picture_sets import Pictures
from pcworker.errors import InputError
from pcworker.networks.zoo.build import build_graph
from pcworker.networks.zoo.facts import SMALL
from pcworker.store.in_turns import TurnsResult, turns_digest
from pcworker.trials.digests import combine, parameter_sha256
from pcworker.trials.trial import Trial

SEED, UPDATES, SIZE = 11, 6, 5
COMMON: dict[str, Any] = {"updates": UPDATES, "batch_size": SIZE, "test_samples": 100}


@pytest.fixture(scope="module")
def pictures(digits: Digits) -> Pictures:
    train, test = (each[:500].reshape(-1, 1, 28, 28) for each in digits[::2])
    return Pictures(train, digits.train_labels[:500], test, digits.test_labels[:500])


def trained(
    pictures: Pictures, network: str, cells: Sequence[dict[str, Any]], **common: Any
) -> TurnsResult[Trained]:
    """BP, and each of the cells."""
    trials = [
        Trial(network_configuration(network=network, **(COMMON | common | cell)), SEED)
        for cell in ({"rule": "BP"}, *cells)
    ]
    return NetworkEngine(pictures, torch.device("cpu")).run(trials)


def by_hand(pictures: Pictures, name: str, rate: float, updates: int = UPDATES) -> nn.Module:
    """The network of `name`, which sees whole pictures, after some updates."""
    network = build_graph(name, SEED, SMALL, 10).eval()
    order = image_order(SEED, 1, len(pictures.train))
    optimiser = torch.optim.SGD(network.parameters(), lr=rate)
    for update in range(1, updates + 1):  # the first minibatch settles the libraries
        chosen = order[update * SIZE : (update + 1) * SIZE].numpy()
        x = torch.from_numpy(pictures.train[chosen]).float() / 255
        y = torch.eye(10)[torch.from_numpy(pictures.train_labels[chosen]).long()]
        optimiser.zero_grad()
        (0.5 * ((y - network(x)) ** 2).sum()).backward()
        optimiser.step()
    return network


def shas(found: Trained) -> dict[str, str]:
    return {parameter.parameter: parameter.sha256 for parameter in found.parameters}


@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_bp_and_z_il_learn_what_a_plain_loop_learns(
    cpu: torch.device, pictures: Pictures, reduction: str
) -> None:
    z_il = [{"rule": "Z-IL", "schedule": name} for name in ("layerwise", "literal")]
    how = {"alpha": 0.02, "reduction": reduction}
    result = trained(pictures, "resnet-small", z_il, **how)
    theirs = by_hand(pictures, "resnet-small", 0.02 / (SIZE if reduction == "mean" else 1))
    expected = {n: parameter_sha256(p.detach().numpy()) for n, p in theirs.named_parameters()}
    for found in result.trials:
        assert shas(found) == expected
        assert found.to_bp.exact
        assert (found.to_bp.weight_l2_to_bp, found.to_bp.weight_maxabs_to_bp) == (0.0, 0.0)
    test = torch.from_numpy(pictures.test[:100]).float() / 255
    with torch.no_grad():
        answers = theirs(test).argmax(1).numpy()
    wrong = float((answers != pictures.test_labels[:100]).mean())
    assert {found.test_error for found in result.trials} == {wrong}


def test_what_breaks_a_condition_is_measured(cpu: torch.device, pictures: Pictures) -> None:
    cells = [
        {"rule": "Z-IL", "levelled": False, "schedule": "literal"},
        {"rule": "Z-IL", "sigma": 0.01},
        {"rule": "Z-IL", "gamma": 0.9},
        {"rule": "IL", "t": 2},
        {"rule": "Z-IL"},
    ]
    *broken, kept = trained(pictures, "resnet-small", cells).trials[1:]
    for found in broken:
        apart = found.to_bp
        assert not apart.exact
        assert apart.weight_l1_to_bp and apart.weight_l2_to_bp and apart.weight_maxabs_to_bp
        assert apart.weight_maxabs_to_bp <= apart.weight_l2_to_bp <= apart.weight_l1_to_bp
    assert kept.to_bp.exact
    assert kept.sizes.identities == 3


def test_distances_are_those_of_all_weights_as_one_vector() -> None:
    """Oracle: 3, 4 and 12 by hand."""
    bp, ours = nn.Linear(2, 1), nn.Linear(2, 1)
    with torch.no_grad():
        ours.weight.copy_(bp.weight + torch.tensor([[3.0, -4.0]]))
        ours.bias.copy_(bp.bias + 12)
    apart = weight_distance(ours, bp)
    assert not apart.exact
    assert apart.weight_l2_to_bp == pytest.approx(13, rel=1e-6)
    assert apart.weight_l1_to_bp == pytest.approx(19, rel=1e-6)
    assert apart.weight_maxabs_to_bp == pytest.approx(12, rel=1e-6)
    with torch.no_grad():
        ours.bias.fill_(float("nan"))
    assert weight_distance(ours, bp).weight_l2_to_bp is None


def test_every_timed_update_has_a_time_and_the_first_its_memory(
    cpu: torch.device, pictures: Pictures
) -> None:
    reported: list[float] = []
    config = {"network": "cnn", **COMMON}
    rules = ("BP", "Z-IL", "Fa-Z-IL")
    trials = [Trial(network_configuration(rule=rule, **config), SEED) for rule in rules]
    result = NetworkEngine(pictures, cpu).run(trials, report=reported.append)
    assert reported == [0.25, 0.5, 0.75, 1.0]
    assert result.updates == 3 * UPDATES
    bp = result.trials[0]
    for found in result.trials:
        assert len(found.milliseconds) == UPDATES - 2
        assert found.peak_bytes > 4 * found.sizes.parameters
    assert result.twins == {bp.trial.trial_id: [combine(shas(bp).values())]}


def test_the_same_trials_have_the_same_digest(cpu: torch.device, pictures: Pictures) -> None:
    """Times differ, and noise is that of the seed."""
    cells = [{"rule": "Z-IL", "sigma": 0.1}]
    first, again = (trained(pictures, "cnn", cells) for _ in range(2))
    assert turns_digest(first) == turns_digest(again)
    other = trained(pictures, "cnn", [{"rule": "Z-IL", "sigma": 0.2}])
    assert turns_digest(other) != turns_digest(first)


def test_weights_that_are_not_finite_are_said_to_be(cpu: torch.device, pictures: Pictures) -> None:
    result = trained(pictures, "cnn", [{"rule": "Z-IL"}], alpha=1e30)
    for found in result.trials:
        assert not found.finite
        assert found.to_bp.weight_l2_to_bp is None


def test_a_device_of_another_kind_is_refused(cpu: torch.device, pictures: Pictures) -> None:
    config = network_configuration(network="cnn", rule="BP", device_kind="cuda")
    with pytest.raises(InputError, match="give --device cpu"):
        NetworkEngine(pictures, cpu).run([Trial(config, 1)])
