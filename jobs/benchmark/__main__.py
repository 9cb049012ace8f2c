"""How long does a weight update take here, and in other libraries?

This job times weight updates on MNIST on one core. All contenders are timed in the same run; each
of them learns a short block of minibatches in turn:

    ours               stacks of trials by our fast kernel; the time includes making the batches
    torch operations   the same trials by plain torch, alone and in the widest stack, likewise
    torch autograd     torch.nn.Linear, autograd and SGD, on batches that are ready
    pcx, FabricPC      in an environment of their own (make peers), on batches that are ready

Every contender has the same initial weights, batches and rates: sigmoid hidden layers, a linear
output, no bias, batches of 20, targets 0 and 1, 1/2 sum of squares, alpha 0.001, gamma 0.1 (1 for
Z-IL). Ratios are taken within each round. The times hold for this machine only; compare the ratios.
"""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import click
import torch
from rich.control import Control
from rich.segment import ControlType

from jobs.benchmark.arithmetic import fastest, measured_blocks
from jobs.benchmark.contenders import (
    AUTOGRAD,
    OURS,
    Contender,
    Supply,
    autograd,
    distance_apart,
    needed_arithmetic,
    stack,
    torch_stack,
)
from jobs.benchmark.peers_process import PeersProcess, peers_process
from jobs.benchmark.rounds import Core, one_core, take_rounds
from jobs.benchmark.tables import SpeedRow, floor_table, quoted_table, speed_table, width_table
from jobs.options import INTEGERS, console, help_text, main
from pcworker.clock.turns import spread
from pcworker.data.batches import CHUNK
from pcworker.data.mnist import load_digits
from pcworker.equations.rules import BP, IL, Z_IL, Rule
from pcworker.errors import InputError
from pcworker.machine.provenance import ROOT
from pcworker.trials.configuration import configuration
from pcworker.trials.trial import Trial

SEED = 1482555873
GAMMA = 0.1
WIDEST = 10_000
"""The most trials in a stack that can be timed."""
CoreRates = Sequence[tuple[float, float]]
"""The rates that the core reached in each round: GFLOP/s, and nanoseconds per sigmoid."""
PEERS_PYTHON = ROOT / ".venv-peers" / "bin" / "python"
"""The Python of the environment that `make peers` makes."""


def trials(network: str) -> dict[str, Trial]:
    """The trial that is trained with each rule."""

    def trial(rule: Rule, **values: Any) -> Trial:
        return Trial(configuration(network=network, rule=rule.name, **values), SEED)

    return {
        Z_IL.name: trial(Z_IL),
        "IL, 20 steps": trial(IL, t=20, gamma=GAMMA),
        "IL, 64 steps": trial(IL, t=64, gamma=GAMMA),
        BP.name: trial(BP),
    }


def contenders(
    by_rule: dict[str, Trial], widths: Sequence[int], supply: Supply, rate: float
) -> list[Contender]:
    """The contenders that run in this process, rule by rule."""
    made = []
    for rule, trial in by_rule.items():
        made += [stack(rule, trial, width, supply, rate) for width in widths]
        if rule == BP.name:
            made.append(autograd(trial, supply, rate))
        else:
            both = sorted({1, max(widths)})
            made += [torch_stack(rule, trial, width, supply, rate) for width in both]
    return made


@contextmanager
def found_peers(
    wanted: bool, python: Path | None, trial: Trial, supply: Supply, rate: float
) -> Iterator[PeersProcess | None]:
    """Starts the peers' process. Without peers it gives None, and prints why unless they were not
    wanted."""
    if not wanted:
        yield None
    elif python is None and not PEERS_PYTHON.exists():
        console.print("No peers: there is no .venv-peers here; make it with: make peers")
        yield None
    else:
        with peers_process(python or PEERS_PYTHON, trial, supply, rate, GAMMA) as process:
            for peer, reason in process.failed.items():
                console.print(f"No {peer}: {reason}")
            yield process


def print_tables(
    rows: Sequence[SpeedRow], by_rule: dict[str, Trial], supply: Supply, rates: CoreRates
) -> None:
    """Prints all tables of the benchmark."""
    ours = [row.times for row in rows if row.times.who == OURS]
    (bp,) = (row.times for row in rows if row.times.who == AUTOGRAD)
    console.print(speed_table(rows, bp))
    console.print(width_table(ours))
    best = {rule: fastest([row for row in ours if row.rule == rule]) for rule in by_rule}
    needed = {rule: needed_arithmetic(trial, supply) for rule, trial in by_rule.items()}
    gflops, sigmoids = (spread(values) for values in zip(*rates, strict=True))
    console.print(floor_table(best, needed, gflops, sigmoids))
    console.print(quoted_table())


@click.command(help=help_text(__doc__), context_settings={"max_content_width": 100})
@click.option(
    "--rounds", type=click.IntRange(1), default=20, show_default=True,
    help="Rounds, in each of which every contender learns one block.",
)  # fmt: skip
@click.option(
    "--updates", type=click.IntRange(1, CHUNK), default=CHUNK, show_default=True,
    help="Weight updates in a block; a worker makes 100 batches at a time.",
)  # fmt: skip
@click.option(
    "--network", default="784-32-32-10", show_default=True,
    help="Widths of the layers, from 784 pixels to 10 classes.",
)  # fmt: skip
@click.option(
    "--widths", type=INTEGERS, default="1,4,16,48", show_default=True,
    help="Numbers of trials in our stacks.",
)  # fmt: skip
@click.option(
    "--peers/--no-peers", default=True, show_default=True, help="Also time pcx and FabricPC."
)
@click.option(
    "--peers-python", type=click.Path(path_type=Path),
    help="Python of the peers' environment.  [default: .venv-peers/bin/python, by make peers]",
)  # fmt: skip
@click.option("--data", type=click.Path(path_type=Path), help="Directory of the data set.")
def command(
    rounds: int,
    updates: int,
    network: str,
    widths: tuple[int, ...],
    peers: bool,
    peers_python: Path | None,
    data: Path | None,
) -> None:
    """The command line: see the module's docstring."""
    by_rule = trials(network)
    config = by_rule[BP.name].configuration
    if (config.widths[-1], config.widths[0]) != (784, 10):
        raise InputError(f"network {network}: MNIST needs one from 784 to 10, as 784-32-32-10")
    if min(widths) < 1 or max(widths) > WIDEST or len(set(widths)) < len(widths):
        raise InputError(
            f"--widths {','.join(map(str, widths))}: give numbers of trials from 1 to {WIDEST}, "
            "each once"
        )

    def say(done: int) -> None:
        if console.is_terminal:  # not a progress bar: it would be redrawn while something is timed
            console.print(f"round {done} of {rounds}", end="")
            console.control(Control(ControlType.CARRIAGE_RETURN))

    supply = Supply(config, load_digits(data), SEED, updates)
    console.print(f"{one_core()}; torch {torch.__version__}; network {network}")
    with ExitStack() as context:
        every = contenders(by_rule, widths, supply, config.alpha)
        process = context.enter_context(
            found_peers(peers, peers_python, by_rule[BP.name], supply, config.alpha)
        )
        if process:
            every += process.contenders(updates)
        core, blocks = Core(), [contender.run_block for contender in every]
        take_rounds(blocks, 1, core, lambda done: None)  # a first round warms up and compiles
        learnt = {c.rule: c.weights() for c in every if c.who == OURS}
        off = [distance_apart(learnt[c.rule], c.weights()) for c in every]
        times, rates = take_rounds(blocks, rounds, core, say)
    console.print(
        f"{rounds} rounds of {updates} updates a contender, median over rounds (10th to 90th "
        "percentile). Off ours: the largest difference of a weight after the first round's updates."
    )
    rows = [
        SpeedRow(measured_blocks(c.who, c.rule, c.width, t, updates), far)
        for c, t, far in zip(every, times, off, strict=True)
    ]
    print_tables(rows, by_rule, supply, rates)


if __name__ == "__main__":
    main(command)
