"""The learning rules of Song et al. (2020): one value for each, with all that is known about it.

BP       backpropagation by torch.autograd, the reference; it makes no inference
IL       inference learning: all weights move at step t, after t inference steps (Algorithm 1)
Z-IL     theta^{l+1} moves at t = l, for l = 0 .. l_max - 1 (Sec. 3)
Fa-Z-IL  fully autonomous Z-IL: theta^{l+1} moves where phi(eps^l) = 1, whatever the step is
         (Sec. 4, Algorithm 2)

A new rule is a new value here, and a name in the sweeps that want it.
"""

from dataclasses import dataclass
from typing import Any

from pcworker.errors import InputError

PARAMETERS = ("t", "t_d", "horizon", "gamma", "sigma", "arithmetic", "schedule")
"""The parameters that only some rules use. Where a rule does not use one, a configuration holds
None."""

_INFERENCE = ("gamma", "sigma", "arithmetic", "schedule")


@dataclass(frozen=True)
class Rule:
    """A learning rule of a network with layers l = 0 (output) .. l_max (input)."""

    name: str
    """The name that users write and that is stored."""
    uses: tuple[str, ...]
    """Those of PARAMETERS on which a training by this rule depends."""
    infers: bool = True
    """True if the rule runs inference (Eq. 5-7). BP does not."""
    layer_by_layer: bool = False
    """True if theta^{l+1} learns at t = l. False if all weights learn at the last step."""
    gated: bool = False
    """True if phi decides, for each neuron and each sample, whether weights move."""
    default_schedule: str = "layerwise"
    """The faster schedule, layerwise, if it gives the bits of the literal one."""

    def last_step(self, l_max: int, *, t: int | None = None, horizon: int | None = None) -> int:
        """The last t at which the rule looks at the network.

        By default that is l_max - 1, when the output's error has reached the deepest weights. The
        t of IL or the horizon of Fa-Z-IL takes its place. BP makes no inference and stays at 0.
        """
        if not self.infers:
            return 0
        if "t" in self.uses and t is not None:
            return t
        if "horizon" in self.uses and horizon is not None:
            return horizon
        return l_max - 1

    def fires(self, l: int, t: int, last_step: int, *, every_step: bool) -> bool:
        """True if theta^{l+1} may move at step t.

        every_step  True: a gated rule may move it at every step, and phi decides. False: a gated
                    rule may move it only at the step at which it is expected to fire.
        """
        if self.gated and every_step:
            return True
        return t == (l if self.layer_by_layer else last_step)

    def require_t(self, t: int | None) -> None:
        """Raises InputError if t is None and the rule uses it, because t has no default."""
        if "t" in self.uses and t is None:
            raise InputError(
                f"rule {self.name} needs t, the inference step at which it moves the weights"
            )

    def unused(self, configuration: object) -> dict[str, Any]:
        """None for each parameter that `configuration` has and this rule does not use, by name: the
        changes that make a configuration canonical."""
        names = [name for name in PARAMETERS if hasattr(configuration, name)]
        return {name: None for name in names if name not in self.uses}


BP = Rule("BP", uses=(), infers=False)
IL = Rule("IL", uses=("t", *_INFERENCE))
Z_IL = Rule("Z-IL", uses=_INFERENCE, layer_by_layer=True)
FA_Z_IL = Rule(
    "Fa-Z-IL",
    uses=("t_d", "horizon", *_INFERENCE),
    layer_by_layer=True,
    gated=True,
    # a neuron whose error is exactly 0 at t = l may fire later, which layerwise does not look for
    default_schedule="literal",
)
RULES = {rule.name: rule for rule in (BP, IL, Z_IL, FA_Z_IL)}
"""All rules by name, in the order in which they are listed to users."""


def rule_named(name: str) -> Rule:
    """The rule of that name. Raises InputError for an unknown one."""
    if name not in RULES:
        raise InputError(f"rule {name!r} is unknown; allowed: {', '.join(RULES)}")
    return RULES[name]


def label(rule: str, t: int | None) -> str:
    """A rule's name for a table or a figure, with t where it has one: "IL, t = 20"."""
    return rule if t is None else f"{rule}, t = {t}"
