"""A stack: trials of one network, trained together in one batched program of torch operations."""

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

from pcworker.data.batches import Batch, Chunk
from pcworker.data.randomness import initial_parameters
from pcworker.equations.activity import buffered
from pcworker.equations.inference import Inference, State
from pcworker.equations.layers import Dense
from pcworker.equations.nonlinearity import ACTIVATIONS
from pcworker.equations.phi import BufferedDetector
from pcworker.equations.schedule import sort_key, steps
from pcworker.kernels.blocks import blocks, kind
from pcworker.trials.trial import Trial


class Stack:
    """R trials that run inference and share a `stack_key`: mixed in rule, t, gamma, sigma and seed.

    Weights are [R, n_l, n_{l+1}], activities [R, B, n_l].
    """

    def __init__(self, trials: Sequence[Trial], device: torch.device) -> None:
        config = trials[0].configuration
        ordered = sorted(trials, key=lambda trial: sort_key(kind(trial)))
        drawn = [initial_parameters(trial.configuration, trial.seed) for trial in ordered]
        layers = []
        for l in range(config.l_max):
            parameters = [
                torch.stack(same).to(device) for same in zip(*(d[l] for d in drawn), strict=True)
            ]
            above = ACTIVATIONS[config.activation] if l < config.l_max - 1 else None
            layers.append(Dense(parameters[0], parameters[1] if config.bias else None, above))
        self._arrange(ordered, layers)
        self.squares = torch.zeros(
            len(trials), config.batch_size, config.widths[0], dtype=torch.float64, device=device
        )
        """[R, B, n_0]: the squares of the output errors at t = 0, added up until they are set to
        zero."""

    def _arrange(self, trials: Sequence[Trial], layers: list[Dense]) -> None:
        """Sets everything that depends on which trials there are, at the start and in `keep`."""
        config = trials[0].configuration
        self.trials = tuple(trials)
        """The trials in the order of the stack, which is `sort_key`'s."""
        self.layers = layers
        like = layers[0].weight
        self._gamma = _column([t.configuration.gamma or 0.0 for t in trials], like)
        self._sigma = _column([t.configuration.sigma or 0.0 for t in trials], like)
        self._t_d = _column([t.configuration.t_d or 0 for t in trials], like).int()
        self._noisy = any(trial.configuration.noisy for trial in trials)
        self._arithmetic = str(config.arithmetic)
        self._steps = steps(blocks(trials), config.l_max)
        self._inference: dict[int, Inference] = {}  # by batch size: the last batch may be smaller
        seeds = {seed: i for i, seed in enumerate(dict.fromkeys(t.seed for t in trials))}
        self.seeds = tuple(seeds)
        """The distinct seeds, in order of appearance."""
        self._seed_index = torch.tensor([seeds[t.seed] for t in trials], device=like.device)

    @torch.no_grad()
    def update(
        self,
        batches: Mapping[int, Batch],
        rate: float,
        watch: Callable[[State], None] | None = None,
    ) -> None:
        """Makes one weight update of every trial, from the batch of its seed.

        rate   the learning rate of a sum over the batch
        watch  is called after each inference step. The `eps` and `phi` of its state are those of
               that step, its activities and weights have moved already. All will be overwritten.
        """
        size = len(batches[self.seeds[0]].inputs)
        inference = self._latest = self._for_size(size)
        inputs = inference.state.inputs
        if len(self.seeds) == 1:
            inputs[0].copy_(batches[self.seeds[0]].inputs)
        else:
            by_seed = torch.stack([batches[seed].inputs for seed in self.seeds])
            torch.index_select(by_seed, 0, self._seed_index, out=inputs)
        targets = self._spread({seed: batch.targets for seed, batch in batches.items()})
        shifts = self._shifts(batches) if self._noisy else None
        errors = inference.start(targets, shifts)
        self.squares[:, :size] += errors.double().square_()
        for step in self._steps:
            inference.step(step, rate)
            if watch is not None:
                watch(inference.state)

    def train(self, chunks: Mapping[int, Chunk], rate: float) -> None:
        """Makes the weight updates of these chunks, which are by seed."""
        streams = [chunks[seed].batches() for seed in self.seeds]
        for batches in zip(*streams, strict=True):
            self.update(dict(zip(self.seeds, batches, strict=True)), rate)

    def parameters(self, trial: int) -> list[list[Tensor]]:
        """theta^{l+1} of one trial, l = 0 .. l_max - 1, as views: [weight], or [weight, bias]."""
        return [layer.parameters(trial) for layer in self.layers]

    def everything(self, trial: int) -> list[Tensor]:
        """Everything that the last update has computed for one trial, and its parameters."""
        state = self._latest.state
        lists = (state.mu, state.eps, state.fx[1:-1], state.buffer[1:])
        computed = [each[trial] for tensors in lists for each in tensors if each is not None]
        return computed + [p for layer in self.parameters(trial) for p in layer]

    def finite(self) -> list[bool]:
        """For each trial, whether all its parameters are finite."""
        flat = [p.flatten(1) for l in self.layers for p in (l.weight, l.bias) if p is not None]
        return torch.stack([torch.isfinite(p).all(1) for p in flat]).all(0).tolist()

    def keep(self, wanted: Sequence[bool]) -> None:
        """Drops the trials that are not wanted. The bits of the others do not change."""
        if all(wanted):
            return
        places = [place for place, is_wanted in enumerate(wanted) if is_wanted]
        if not places:
            self.trials = ()
            return
        index = torch.tensor(places, device=self.squares.device)
        self.squares = self.squares[index]
        layers = [layer.keep(index) for layer in self.layers]
        self._arrange([self.trials[i] for i in places], layers)

    def _spread(self, by_seed: Mapping[int, Tensor]) -> Tensor:
        """[B, n] by seed to [R, B, n] by trial, without a copy if all trials share a seed."""
        if len(self.seeds) == 1:
            return by_seed[self.seeds[0]].expand(len(self.trials), -1, -1)
        return torch.stack([by_seed[seed] for seed in self.seeds])[self._seed_index]

    def _shifts(self, batches: Mapping[int, Batch]) -> list[Tensor]:
        """sigma times the seed's noise, [R, B, n_l] by l. The entry of l = 0 is not used."""
        normals = [
            self._spread({seed: batches[seed].noise[-l] for seed in self.seeds})
            for l in range(1, len(self.layers))
        ]
        return [self._sigma, *(self._sigma * normal for normal in normals)]

    def _for_size(self, batch: int) -> Inference:
        """The inference of minibatches of this size, which keeps its memory."""
        if batch not in self._inference:
            like, trials = self.layers[-1].weight, len(self.trials)
            alone = len(self.seeds) == 1  # then all trials look at one input
            inputs = like.new_zeros(1 if alone else trials, batch, like.shape[2])
            state = self._state(inputs.expand(trials, -1, -1))
            self._inference[batch] = Inference(state, trials, bool((self._t_d > 0).any()))
        return self._inference[batch]

    def _state(self, inputs: Tensor) -> State:
        """A state in buffers that stay. Each batch is put into `inputs` [R, B, n_{l_max}]."""
        mu = [inputs.new_zeros(*inputs.shape[:2], layer.weight.shape[1]) for layer in self.layers]
        phi = [torch.zeros_like(like, dtype=torch.bool) for like in mu]
        quiet = [torch.zeros_like(like, dtype=torch.int32) for like in mu]
        return State(
            layers=list(self.layers),
            activity=[buffered(self._arithmetic, like) for like in mu],
            fx=[*(torch.zeros_like(like) for like in mu), inputs],
            mu=mu,
            eps=[torch.zeros_like(like) for like in mu],
            phi=phi,
            detector=[BufferedDetector(*both, self._t_d) for both in zip(phi, quiet, strict=True)],
            buffer=[torch.zeros_like(like) for like in mu],
            gamma=self._gamma,
        )


def _column(values: Sequence[float], like: Tensor) -> Tensor:
    """The values as [R, 1, 1], of the dtype and on the device of `like`."""
    return torch.tensor(values, dtype=like.dtype, device=like.device).reshape(-1, 1, 1)
