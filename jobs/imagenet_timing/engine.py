"""Times the rules of one network on one device, in turns."""

import copy
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import islice
from typing import Any

import torch
from torch import Tensor, nn

from jobs.imagenet_timing.configuration import KEPT, TimingConfiguration
from jobs.imagenet_timing.learners import layer_distance, learner, named_parameters
from jobs.imagenet_timing.results import Comparison, TrialTiming
from pcworker.clock.stopwatch import stopwatch
from pcworker.clock.turns import Update, take_turns, time_loops, warm_up
from pcworker.data.images import Minibatch, images, minibatches
from pcworker.machine.device import prefer_deterministic, require_kind
from pcworker.networks.catalogue import facts
from pcworker.networks.named import build
from pcworker.store.in_turns import TurnsResult, shas
from pcworker.store.tables import FinalParameter, final_parameter
from pcworker.trials.trial import Trial


class TimingEngine:
    """Times the trials of a shard on one device."""

    def __init__(self, directory: str | None, device: torch.device) -> None:
        """
        directory  a directory of images; None: synthetic images
        """
        self._directory, self._device = directory, device
        # torch warns of the gradient of AdaptiveAvgPool2d on a GPU, because it adds atomically
        # where windows overlap; in these networks they do not overlap
        prefer_deterministic()

    def run(
        self,
        trials: Sequence[Trial[TimingConfiguration]],
        *,
        report: Callable[[float], None] = lambda share: None,
        **_: Any,
    ) -> TurnsResult[TrialTiming]:
        """Times all rules of one network and seed.

        trials  the trials of a shard, plain BP first
        report  it is called with the share of the work that is done, from 0 to 1

        The other arguments are about stacks and checkpoints, which this engine has no use for.
        Raises InputError if the device is of another kind than the plan's.
        """
        started = time.monotonic()
        config, seed = trials[0].configuration, trials[0].seed
        require_kind(self._device, config.device_kind)
        network = build(config.network, seed).to(self._device)
        networks = [copy.deepcopy(network) for _ in trials]
        example = next(self._batches(config, seed))
        learners = [
            learner(trial.configuration, each, example)
            for trial, each in zip(trials, networks, strict=True)
        ]
        watch, batches = stopwatch(self._device), self._batches(config, seed)
        _use_libraries(trials, network, example)
        updates = [each.update for each in learners]
        peaks = warm_up(watch.peak_bytes, updates, islice(batches, config.warmup))
        loops = 0 if config.loaders is None else len(trials)
        shares = _counted(report, config.blocks * (1 + loops))
        turns = (list(islice(batches, config.block)) for _ in range(config.blocks))
        times = take_turns(watch.milliseconds, updates, turns, shares)
        for each in learners:
            each.rest()
        parameters = [kept_parameters(each, config.save_weights) for each in networks]
        comparisons = [
            _compare(each, networks[0], shas(mine) == shas(parameters[0]))
            for each, mine in zip(networks, parameters, strict=True)
        ]
        finite = [_finite(each) for each in networks]
        looped = self._loops(updates, config, seed, shares)
        weights = sum(p.numel() * p.element_size() for p in network.parameters())
        return TurnsResult(
            trials=[
                TrialTiming(
                    trial=trial,
                    milliseconds=times[place],
                    loop_milliseconds=looped[place] if looped else None,
                    peak_bytes=weights + peaks[place],
                    finite=finite[place],
                    to_bp=comparisons[place],
                    parameters=parameters[place],
                )
                for place, trial in enumerate(trials)
            ],
            wall_seconds=time.monotonic() - started,
            updates=len(trials) * config.updates_in_all,
        )

    def _batches(
        self, config: TimingConfiguration, seed: int, loaders: int = 0
    ) -> Iterator[Minibatch]:
        network = facts(config.network)
        samples = images(self._directory, network, seed)
        size, classes = config.batch_size, network.classes
        return minibatches(samples, seed, size, classes, self._device, loaders)

    def _loops(
        self,
        updates: Sequence[Update[Minibatch]],
        config: TimingConfiguration,
        seed: int,
        report: Callable[[], None],
    ) -> list[list[float]] | None:
        if config.loaders is None:
            return None
        clock = stopwatch(self._device).milliseconds
        loaded = self._batches(config, seed, config.loaders)
        blocks, block, ahead = config.blocks, config.block, config.ahead
        return time_loops(clock, updates, loaded, blocks, block, ahead, report)


def _use_libraries(
    trials: Sequence[Trial[TimingConfiguration]], network: nn.Sequential, example: Minibatch
) -> None:
    """Makes an update of copies of the network, plain and as a graph if there is one: libraries
    keep the memory that they take at their first use, and it must not count for one rule."""
    executions = {trial.configuration.execution for trial in trials}
    for execution in sorted(executions - {"compiled"}):
        config = replace(trials[0].configuration, execution=execution)
        learner(config, copy.deepcopy(network), example).update(example)


def _counted(report: Callable[[float], None], steps: int) -> Callable[[], None]:
    done = 0

    def step() -> None:
        nonlocal done
        done += 1
        report(done / steps)

    return step


def kept_parameters(network: nn.Sequential, everything: bool) -> list[FinalParameter]:
    """The final parameters of a network, in the order of its layers, the weight before the bias.

    everything  keep the values of large parameters, too, and not only their sha256
    """
    found = []
    for l, layer in enumerate(named_parameters(network)):
        for name, parameter in layer:
            values = parameter.cpu().numpy()
            kept = everything or values.size <= KEPT
            found.append(final_parameter(l + 1, name, values, kept))
    return found


def _compare(network: nn.Sequential, bp: nn.Sequential, exact: bool) -> Comparison:
    """Compares the parameters of two networks.

    exact  True if they have the same sha256
    """
    if exact:
        return Comparison(exact=True, weight_l2_to_bp=0.0, weight_maxabs_to_bp=0.0)
    if not (_finite(network) and _finite(bp)):
        return Comparison(exact=False, weight_l2_to_bp=None, weight_maxabs_to_bp=None)
    pairs = zip(_layers(network), _layers(bp), strict=True)
    apart = [layer_distance(ours, theirs) for ours, theirs in pairs]
    return Comparison(False, sum(l2 for l2, _ in apart), max(largest for _, largest in apart))


def _layers(network: nn.Sequential) -> list[list[Tensor]]:
    return [[parameter for _, parameter in layer] for layer in named_parameters(network)]


def _finite(network: nn.Sequential) -> bool:
    return all(bool(torch.isfinite(p).all()) for p in network.parameters())
