"""The words that every job's command line shares, and how a job ends: exit codes, one-line errors.

0 done    1 some shards failed    2 the user's input or environment    130 interrupted
"""

import signal
import sys
from collections.abc import Callable, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any, NoReturn

import click
from rich.console import Console

from cluster.nodes.resources import Resources
from cluster.run import RunOptions
from pcworker.errors import IncompleteError, InputError
from pcworker.store.patient import INTERRUPTED
from pcworker.trials.configuration import CHOICES

# no markup: paths and messages may contain brackets
console = Console(
    width=None if sys.stdout.isatty() else 1000, markup=False, highlight=False, emoji=False
)
errors = Console(stderr=True, markup=False, highlight=False, emoji=False)


class Listed(click.ParamType[Any]):
    """Values with commas between them: `1,2,3`."""

    def __init__(self, parse: Callable[[str], object], name: str) -> None:
        self._parse, self.name = parse, name

    def convert(self, value: Any, param: Any, ctx: Any) -> tuple[object, ...]:
        """A tuple of the parsed values."""
        if isinstance(value, tuple):
            return value
        try:
            return tuple(self._parse(part.strip()) for part in str(value).split(","))
        except ValueError:
            self.fail(f"{value!r} is not a list of {self.name} such as {param.default}", param, ctx)


INTEGERS = Listed(int, "INTEGERS")
NUMBERS = Listed(float, "NUMBERS")
TEXTS = Listed(str, "NAMES")
STEPS = Listed(lambda text: None if text == "l" else int(text), "STEPS")

MNIST_NETWORKS = "784-32-10,784-32-32-10,784-32-32-32-10"
"""The paper's: one, two and three hidden layers."""


def mnist_network(network: str) -> str:
    """`network`, if it has MNIST's inputs and outputs; otherwise InputError."""
    if not (network.startswith("784-") and network.endswith("-10")):
        raise InputError(f"network {network!r}: MNIST needs 784 inputs and 10 outputs: 784-...-10")
    return network


_STORE = [
    click.option(
        "--store", default="results", show_default=True,
        help="Where results are kept: a directory, or s3://bucket/prefix.",
    ),
    click.option(
        "--s3-endpoint", metavar="URL",
        help="Of an S3 server that is not AWS's.  [default: boto3's, as AWS_ENDPOINT_URL_S3]",
    ),
]  # fmt: skip
sweep_names = click.option(
    "--sweep", required=True, type=TEXTS, help="Name of the sweep, or several with commas."
)


def help_text(docstring: str | None) -> str:
    """A module's docstring for --help: indented paragraphs keep their lines."""
    paragraphs = (docstring or "").split("\n\n")
    return "\n\n".join("\b\n" + p if p.startswith("    ") else p for p in paragraphs)


def choice(name: str, default: str | None, text: str) -> Callable[[Any], Any]:
    """An option whose values a configuration limits."""
    return click.option(
        f"--{name}", default=default, show_default=True, type=click.Choice(CHOICES[name]), help=text
    )


_WHERE = [
    click.option("--data", type=click.Path(path_type=Path), help="Directory of the data set."),
    click.option("--workers", type=click.IntRange(1), help="Workers.  [default: as many as fit]"),
    click.option(
        "--cpus-per-worker", type=float, default=1.0,
        show_default=True, help="CPU cores, and threads, of a worker.",
    ),
    click.option(
        "--gpus-per-worker", type=float, default=0.0, show_default=True,
        help="GPUs of a worker; fractions share one.",
    ),
    click.option(
        "--device", type=click.Choice(["auto", "cpu", "cuda"]), default="auto", show_default=True,
        help="auto: the GPU that Ray assigned to the worker, else its CPU cores.",
    ),
    click.option(
        "--address",
        help="Ray cluster: auto or HOST:PORT.  [default: RAY_ADDRESS, else a local Ray]",
    ),
]  # fmt: skip
_RUN = [
    *_STORE,
    click.option("--sweep", help="Name of the sweep.  [default: from the set of trials]"),
    *_WHERE,
    click.option(
        "--no-preflight", is_flag=True,
        help="Start without a look at what would break it (python -m jobs.preflight).",
    ),
    click.option(
        "--plan", "plan_only", is_flag=True,
        help="Check everything, print the plan, start nothing.",
    ),
    click.option(
        "--price-per-gpu-hour", type=float, metavar="X",
        help="With --plan: estimates the cost, too; in any currency.",
    ),
]  # fmt: skip
checkpoint_option = click.option(
    "--checkpoint-every", type=click.IntRange(0), default=1, show_default=True,
    help="Epochs between two checkpoints inside a shard; 0: none.",
)  # fmt: skip


def store_options(command: Any) -> Any:
    """The options that say where results are: `open_store` takes them."""
    return _with(_STORE, command)


def run_options(command: Any) -> Any:
    """The options of every job that runs a sweep; `RunOptions` are made of them by `split`."""
    return _with(_RUN, command)


def preflight_options(command: Any) -> Any:
    """The options of a job that only looks: `resources_from` takes some of them."""
    return _with([*_STORE, *_WHERE], command)


def _with(options: Sequence[Any], command: Any) -> Any:
    for option in reversed(options):
        command = option(command)
    return command


def split(given: dict[str, Any]) -> RunOptions:
    """Takes the run options out of a command's arguments."""
    resources = resources_from(given)
    every = given.pop("checkpoint_every", 0)  # a job without that option has no checkpoints
    named = {f.name: given.pop(f.name) for f in fields(RunOptions) if f.name in given}
    return RunOptions(resources=resources, checkpoint_every=every, **named)


def resources_from(given: dict[str, Any]) -> Resources:
    """Takes what a worker needs out of a command's arguments."""
    return Resources(
        workers=given.pop("workers"),
        cpus=given.pop("cpus_per_worker"),
        gpus=given.pop("gpus_per_worker"),
        device=given.pop("device"),
    )


def main(command: click.Command) -> NoReturn:
    """Runs a command and exits. A user's mistake is one line, never a traceback."""
    for stop in (signal.SIGINT, signal.SIGTERM):  # a stopped job ends as by Ctrl-C
        signal.signal(stop, _interrupt)
    try:
        code = command(standalone_mode=False)
        sys.exit(code if isinstance(code, int) else 0)
    except click.ClickException as error:
        _fail(error.format_message())
    except (InputError, IncompleteError) as error:
        _fail(str(error))
    except (KeyboardInterrupt, click.Abort):
        errors.print("interrupted: what is committed is kept; the same command goes on from there")
        sys.exit(130)


def _interrupt(signum: int, frame: object) -> NoReturn:
    INTERRUPTED.set()
    raise KeyboardInterrupt


def _fail(message: str) -> NoReturn:
    line = " ".join(message.split())
    errors.print(f"error: {line}", style="red", soft_wrap=True)
    sys.exit(2)
