"""Defines a configuration of the trainings of networks that are graphs."""

import math
from dataclasses import dataclass, replace
from typing import Any, ClassVar

from pcworker.data.picture_sets import picture_set
from pcworker.data.views import shape_seen
from pcworker.equations.rules import BP, rule_named
from pcworker.errors import InputError
from pcworker.networks.zoo.facts import graph_facts
from pcworker.trials.configuration import require_at_least, require_choices

UNTIMED = 2
"""The number of updates at the start whose time does not count: the first one makes torch's caches,
and in it the memory is measured."""
_T_D = 4


@dataclass(frozen=True, kw_only=True)
class NetworkConfiguration:
    """Everything that defines a training, except its seed: one rule on one network and device.

    The kind of the device and its threads belong to it, because time is measured. A field that the
    rule does not use is None.
    """

    engine_version: ClassVar[int] = 1
    sums: ClassVar[str] = "library"
    epochs: ClassVar[int] = 1
    """A shard is trained in one go, and has no checkpoints."""

    network: str
    """A name of `pcworker.networks.zoo.facts`, or a user's own function: "module:function"."""
    cuts: str | None
    """The operations after which a vertex ends, with commas. None: those that are natural."""
    view: str
    """How the network sees a picture: a name of `pcworker.data.views`."""
    data: str
    """The data set: a name of `pcworker.data.picture_sets`."""
    rule: str
    levelled: bool | None
    """False if there are no identity vertices, and a vertex learns at its shortest distance."""
    t: int | None
    """For IL: the inference step at which it moves all weights."""
    t_d: int | None
    gamma: float | None
    sigma: float | None
    schedule: str | None
    arithmetic: str | None
    dtype: str
    alpha: float
    reduction: str
    """"mean": alpha is divided by the size of a minibatch; "sum": it is not."""
    batch_size: int
    updates: int
    """The number of weight updates. All but the first `UNTIMED` are timed."""
    test_samples: int
    """How many pictures of the test set are looked at, at most."""
    device_kind: str
    """"cpu" or "cuda"."""
    threads: int | None
    """The number of threads that compute; None on a GPU."""

    def __post_init__(self) -> None:
        _require_takes(self.network, self.data)
        shape_seen(self.view, picture_set(self.data).input_shape)
        require_choices(self)
        for name, least in (("t", 0), ("batch_size", 1), ("threads", 1), ("test_samples", 1)):
            require_at_least(name, getattr(self, name), least)
        require_at_least("updates", self.updates, UNTIMED + 1)
        for name, above in (("alpha", True), ("gamma", True), ("sigma", False)):
            _require_number(name, getattr(self, name), above)

    @property
    def cut_names(self) -> tuple[str, ...] | None:
        """The operations after which a vertex ends, as `predictive_graph` takes them."""
        if self.cuts is not None:
            return tuple(self.cuts.split(","))
        known = graph_facts(self.network)
        return known.cuts if known else None

    @property
    def rate(self) -> float:
        """The learning rate for a sum over the minibatch."""
        return self.alpha / (self.batch_size if self.reduction == "mean" else 1)

    def twin(self) -> "NetworkConfiguration":
        """The configuration of BP on the same network, device and minibatches."""
        return replace(self, rule=BP.name, levelled=None, **BP.unused(self))


def network_configuration(
    *,
    network: str,
    rule: str,
    cuts: str | None = None,
    view: str | None = None,
    data: str = "mnist",
    levelled: bool = True,
    t: int | None = None,
    gamma: float = 1.0,
    sigma: float = 0.0,
    schedule: str | None = None,
    arithmetic: str = "displacement",
    dtype: str = "float32",
    alpha: float = 0.05,
    reduction: str = "mean",
    batch_size: int = 20,
    updates: int = 100,
    test_samples: int = 2000,
    device_kind: str = "cpu",
    threads: int | None = 1,
) -> NetworkConfiguration:
    """Makes the canonical configuration: a field that the rule does not use is None.

    cuts      the operations with commas; None: those that are natural
    view      None: that of the named network, and whole pictures for a user's own
    schedule  None: the rule's default

    Raises InputError that says what is wrong and what is allowed.
    """
    chosen, known = rule_named(rule), graph_facts(network)
    chosen.require_t(t)
    if known and view not in (None, known.view):
        raise InputError(f"view {view!r}: network {network} sees {known.view}; leave out --view")
    everything = NetworkConfiguration(
        network=network,
        cuts=cuts,
        view=view or (known.view if known else "pictures"),
        data=data,
        rule=rule,
        levelled=levelled if chosen.infers else None,
        t=t,
        t_d=_T_D,
        gamma=float(gamma),
        sigma=float(sigma) + 0.0,  # -0.0 becomes 0.0
        schedule=schedule or chosen.default_schedule,
        arithmetic=arithmetic,
        dtype=dtype,
        alpha=float(alpha),
        reduction=reduction,
        batch_size=batch_size,
        updates=updates,
        test_samples=test_samples,
        device_kind=device_kind,
        threads=threads if device_kind == "cpu" else None,
    )
    made = replace(everything, **chosen.unused(everything))
    return replace(made, gamma=None) if made.t == 0 else made  # no activity moves before t = 1


def _require_takes(network: str, data: str) -> None:
    """Raises InputError if the network is unknown, or does not take the pictures of the data."""
    known, shape = graph_facts(network), picture_set(data).input_shape
    if known and shape not in known.sizes:
        raise InputError(
            f"network {network} is not made for the pictures of {data}, which are "
            f"{' x '.join(map(str, shape))}; give another network or "
            "another --data-set"
        )


def _require_number(name: str, value: Any, above: bool) -> None:
    if value is None or (math.isfinite(value) and (value > 0 or (value == 0 and not above))):
        return
    raise InputError(
        f"{name} {value}: must be a finite number {'above' if above else 'of at least'} 0"
    )
