"""Defines a configuration of the timing runs (the paper's Table 4)."""

from dataclasses import dataclass, replace
from typing import ClassVar

from pcworker.equations.rules import BP, FA_Z_IL, IL, rule_named
from pcworker.errors import InputError
from pcworker.networks.catalogue import facts
from pcworker.trials.configuration import require_at_least, require_choices

LEARNING_RATE = 1e-4
"""The learning rate, for a sum over the batch. No cost depends on it, but with 0.001 the weights of
AlexNet are non-finite after four updates of literal Fa-Z-IL."""
GAMMA_OF_IL = 0.1
"""The integration step of IL: that of Whittington & Bogacz (2017), from whom the paper's timings
take their t_c. With 0.5, inference in AlexNet does not converge. The other rules have gamma 1."""
_T_D = 4
KEPT = 1_000_000
"""The largest number of values of a parameter that is stored in any case. The values of larger
parameters are stored only if the user asks for it."""


@dataclass(frozen=True, kw_only=True)
class TimingConfiguration:
    """Everything that defines a timing, except its seed: one rule on one network and device.

    The kind of the device and its threads belong to it, because time is measured. A field that the
    rule does not use is None.
    """

    engine_version: ClassVar[int] = 1
    sums: ClassVar[str] = "library"
    epochs: ClassVar[int] = 1
    """A shard is timed in one go, and has no checkpoints."""

    network: str
    """A name of `pcworker.networks.catalogue`."""
    rule: str
    t: int | None
    """For IL: the inference step at which it moves all weights, the paper's t_c."""
    t_d: int | None
    horizon: int | None
    gamma: float | None
    schedule: str | None
    arithmetic: str | None
    execution: str
    """How the operations of a weight update are started. "plain": by Python, one by one;
    "compiled": BP's forward and backward passes by torch.compile; "graph": all together, as a CUDA
    graph."""
    alpha: float
    batch_size: int
    data: str
    """"synthetic" or "imagenet"."""
    device_kind: str
    """"cpu" or "cuda"."""
    threads: int | None
    """The number of threads that compute; None on a GPU."""
    warmup: int
    """The number of untimed weight updates before the timed ones."""
    updates: int
    """The number of timed weight updates."""
    block: int
    """The number of updates that one rule makes in a row."""
    loaders: int | None
    """The number of processes that load images in the loop with loading; None: that loop is not
    timed."""
    save_weights: bool
    """True if the values of large parameters are stored too. Otherwise only their sha256 is."""

    def __post_init__(self) -> None:
        facts(self.network)
        require_choices(self)
        self._require_execution()
        for name, least in (("t", 0), ("batch_size", 1), ("threads", 1), ("loaders", 1)):
            require_at_least(name, getattr(self, name), least)
        for name in ("warmup", "updates", "block"):
            require_at_least(name, getattr(self, name), 1)
        if self.updates % self.block:
            raise InputError(
                f"updates {self.updates} are not whole blocks of {self.block}; give a multiple"
            )

    def _require_execution(self) -> None:
        if self.execution == "graph" and self.device_kind == "cpu":
            raise InputError(
                "execution graph: a CUDA graph needs a GPU, and the device is the CPU; give "
                "--gpus-per-worker 1, or leave graph out of --executions"
            )
        if self.execution == "compiled" and self.rule != BP.name:
            raise InputError(f"execution compiled is for {BP.name} alone, not for {self.rule}")

    @property
    def blocks(self) -> int:
        return self.updates // self.block

    @property
    def ahead(self) -> int:
        """The number of minibatches that are loaded in advance: two per loader, as torch's
        DataLoader does by default."""
        return 2 * (self.loaders or 0)

    @property
    def updates_in_all(self) -> int:
        """The number of all weight updates of a trial, including the untimed ones and those of the
        loop with loading."""
        loop = 0 if self.loaders is None else self.ahead + self.updates
        return self.warmup + self.updates + loop

    def twin(self) -> "TimingConfiguration":
        """The configuration of plain BP on the same network, device and minibatches."""
        return replace(self, rule=BP.name, execution="plain", **BP.unused(self))


def timing_configuration(
    *,
    network: str,
    rule: str,
    schedule: str = "layerwise",
    t: int | None = None,
    arithmetic: str = "displacement",
    execution: str = "plain",
    batch_size: int = 2,
    data: str = "synthetic",
    device_kind: str = "cpu",
    threads: int | None = 1,
    warmup: int = 2,
    updates: int = 20,
    block: int = 1,
    loaders: int | None = None,
    save_weights: bool = False,
) -> TimingConfiguration:
    """Makes the canonical configuration: a field that the rule does not use is None.

    Raises InputError that says what is wrong and what is allowed.
    """
    chosen = rule_named(rule)
    chosen.require_t(t)
    everything = TimingConfiguration(
        network=network,
        rule=rule,
        t=t,
        t_d=_T_D,
        horizon=FA_Z_IL.last_step(facts(network).layers),
        gamma=GAMMA_OF_IL if chosen is IL else 1.0,
        schedule=schedule,
        arithmetic=arithmetic,
        execution=execution,
        alpha=LEARNING_RATE,
        batch_size=batch_size,
        data=data,
        device_kind=device_kind,
        threads=threads if device_kind == "cpu" else None,
        warmup=warmup,
        updates=updates,
        block=block,
        loaders=loaders,
        save_weights=save_weights,
    )
    return replace(everything, **chosen.unused(everything))
