"""The program of a trial: its weight update as one row of operations for a kernel in C."""

from pcworker.equations.rules import RULES
from pcworker.equations.schedule import OPERATIONS, Block, steps
from pcworker.kernels.blocks import kind
from pcworker.trials.configuration import Configuration
from pcworker.trials.trial import Trial

Program = tuple[tuple[str, int], ...]
"""Operations of `OPERATION_CODES` in their order, each with the layer l that it works on."""


def program(trial: Trial) -> Program:
    """The program of the trial's rule and schedule."""
    return tuple(operation for part in by_step(trial) for operation in part)


def by_step(trial: Trial) -> list[Program]:
    """The program in parts: the start, and then each inference step. BP has one step."""
    config = trial.configuration
    start = (*forward(config), ("clamp", 0))
    if not RULES[config.rule].infers:  # Eq. 2-4: errors go back through all layers, then all learn
        back = [("pull_back", l) for l in range(1, config.l_max)]
        return [start, (("compare", 0), *back, *(("learn", l) for l in range(config.l_max)))]
    return [
        start,
        *(
            tuple(
                ("learn_gated" if part.gated else operation, part.layer)
                for operation in OPERATIONS
                for part in getattr(step, operation)
            )
            for step in steps([Block(kind(trial), 0, 1)], config.l_max)
        ),
    ]


def forward(config: Configuration) -> Program:
    """The part of every program that goes from the input to mu^0, at t = 0."""
    hidden = [
        (operation, l)
        for l in range(config.l_max - 1, 0, -1)
        for operation in ("predict", "begin", "activate")
    ]
    return (*hidden, ("predict", 0))
