"""Trains the rules of one network on the same minibatches, in turns, and compares them with BP."""

import copy
import time
from collections.abc import Callable, Sequence
from itertools import islice
from typing import Any

import torch
from torch import nn

from jobs.any_network.configuration import UNTIMED, NetworkConfiguration
from jobs.any_network.learners import ByBackprop, ByInference, Learns
from jobs.any_network.measures import (
    all_finite,
    final_parameters,
    sizes_of,
    weight_distance,
    wrong_answers,
)
from jobs.any_network.tables import Trained
from pcworker.clock.stopwatch import stopwatch
from pcworker.clock.turns import take_turns, warm_up
from pcworker.data.picture_sets import Pictures, picture_set
from pcworker.data.shown import PicturesSeen
from pcworker.equations.rules import RULES
from pcworker.machine.device import prefer_deterministic, require_kind
from pcworker.networks.graph.network import GraphNetwork, predictive_graph
from pcworker.networks.zoo.build import build_graph, freeze_statistics
from pcworker.store.in_turns import TurnsResult
from pcworker.trials.trial import Trial

_SETTLING = 200
"""The number of training pictures from which batch normalisation takes its statistics."""


class NetworkEngine:
    """Trains the trials of a shard on one device."""

    def __init__(self, pictures: Pictures | str, device: torch.device) -> None:
        """
        pictures  a set of pictures, or the path of a directory of images
        """
        self._pictures, self._device = pictures, device
        prefer_deterministic()

    def run(
        self,
        trials: Sequence[Trial[NetworkConfiguration]],
        *,
        report: Callable[[float], None] = lambda share: None,
        **_: Any,
    ) -> TurnsResult[Trained]:
        """Trains all rules of one network and seed.

        trials  the trials of a shard, BP first
        report  it is called with the share of the work that is done, from 0 to 1

        The other arguments are about stacks and checkpoints, which this engine has no use for.
        Raises InputError if the device is of another kind than the plan's, and for a network that
        cannot be divided into vertices.
        """
        started = time.monotonic()
        config, seed = trials[0].configuration, trials[0].seed
        require_kind(self._device, config.device_kind)
        shown = self._shown(config)
        network = _network(config, seed, shown, self._device)
        networks = [copy.deepcopy(network) for _ in trials]
        graphs = [_graph(each, t.configuration) for each, t in zip(networks, trials, strict=True)]
        updates = [
            _learner(trial, each, graph).update
            for trial, each, graph in zip(trials, networks, graphs, strict=True)
        ]
        watch, batches = stopwatch(self._device), shown.training(seed, config.batch_size)
        # Libraries keep the memory that they take at their first use, and a graph is checked then;
        # neither must count for a rule.
        first = next(batches)
        ByBackprop(copy.deepcopy(network), config.rate).update(first)
        for graph in graphs:
            graph.require_exact(first.inputs)
        peaks = warm_up(watch.peak_bytes, updates, islice(batches, UNTIMED))
        count, done = config.updates - UNTIMED, iter(range(1, config.updates))
        turns = ([batch] for batch in islice(batches, count))
        times = take_turns(watch.milliseconds, updates, turns, lambda: report(next(done) / count))
        weights = sum(p.numel() * p.element_size() for p in network.parameters())
        found = [
            Trained(
                trial=trial,
                sizes=sizes_of(mine, graph),
                milliseconds=milliseconds,
                peak_bytes=weights + peak,
                finite=all_finite(mine),
                to_bp=weight_distance(mine, networks[0]),
                test_error=wrong_answers(mine, shown.testing(config.test_samples)),
                parameters=final_parameters(mine, graph),
            )
            for trial, mine, graph, milliseconds, peak in zip(
                trials, networks, graphs, times, peaks, strict=True
            )
        ]
        return TurnsResult(
            trials=found,
            wall_seconds=time.monotonic() - started,
            updates=len(trials) * config.updates,
        )

    def _shown(self, config: NetworkConfiguration) -> PicturesSeen:
        kind, dtype = picture_set(config.data), getattr(torch, config.dtype)
        return PicturesSeen(self._pictures, kind, config.view, dtype, self._device)


def _network(
    config: NetworkConfiguration, seed: int, shown: PicturesSeen, device: torch.device
) -> nn.Module:
    """The network with its initial weights. Batch normalisation has the statistics of some pictures
    of the training set, and keeps them."""
    kind, dtype = picture_set(config.data), getattr(torch, config.dtype)
    network = build_graph(config.network, seed, kind.input_shape, kind.classes, dtype).to(device)
    freeze_statistics(network, next(shown.training(seed, _SETTLING)).inputs)
    return network


def _learner(trial: Trial[NetworkConfiguration], network: nn.Module, graph: GraphNetwork) -> Learns:
    config = trial.configuration
    if RULES[config.rule].infers:
        return ByInference(graph, config, trial.seed)
    return ByBackprop(network, config.rate)


def _graph(network: nn.Module, config: NetworkConfiguration) -> GraphNetwork:
    return predictive_graph(network, config.cut_names, levelled=config.levelled is not False)
