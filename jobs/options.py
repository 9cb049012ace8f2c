"""The options that the jobs' command lines share, and how a job ends: exit codes, one-line errors.

Exit codes: 0 done, 1 some shards failed or something that was computed twice differs, 2 a mistake
in the user's input or environment, 3 stopped because the budget is used up, 130 interrupted.
"""

import errno
import io
import os
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any, NoReturn

import click
from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment

from cluster.driver.hangs import HANG_MINUTES
from cluster.nodes.resources import Resources
from cluster.run import RunOptions
from pcworker.equations.rules import RULES
from pcworker.errors import IncompleteError, InputError
from pcworker.store.patient import INTERRUPTED
from pcworker.text import in_a_line, printable
from pcworker.trials.configuration import CHOICES


class Terminal(Console):
    """A console that prints no control character and no escape sequence of a text, because others
    may have written it: an error's message, a host's name, a file in a shared bucket. The console's
    own colours stay."""

    def render(
        self, renderable: RenderableType, options: ConsoleOptions | None = None
    ) -> Iterator[Segment]:
        """Yields what is written for `renderable`."""
        for text, style, control in super().render(renderable, options):
            yield Segment(text if control else printable(text), style, control)


for _name in ("stdin", "stdout", "stderr"):
    if getattr(sys, _name) is None:  # It was closed, as by >&- in a shell.
        setattr(sys, _name, open(os.devnull, "r+"))  # noqa: SIM115
# Markup is off because paths and messages may contain brackets.
console = Terminal(
    width=None if sys.stdout.isatty() else 1000, markup=False, highlight=False, emoji=False
)
errors = Terminal(stderr=True, markup=False, highlight=False, emoji=False)


class Listed(click.ParamType[Any]):
    """An option's type: a list of values with commas between them, such as `1,2,3`."""

    def __init__(self, parse: Callable[[str], object], name: str) -> None:
        self._parse, self.name = parse, name

    def convert(self, value: Any, param: Any, ctx: Any) -> tuple[object, ...]:
        """Returns the parsed values as a tuple."""
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
"""The paper's networks, with one, two and three hidden layers."""


_STORE = [
    click.option(
        "--store", default="results", show_default=True,
        help="Where results are kept: a directory, or s3://bucket/prefix.",
    ),
    click.option(
        "--s3-endpoint", metavar="URL",
        help="URL of an S3 server other than AWS.  [default: boto3's, as AWS_ENDPOINT_URL_S3]",
    ),
]  # fmt: skip
sweep_names = click.option(
    "--sweep", required=True, type=TEXTS, help="Name of the sweep, or several names with commas."
)


def help_text(docstring: str | None) -> str:
    """Prepares a module's docstring for --help, so that indented paragraphs keep their lines."""
    paragraphs = (docstring or "").split("\n\n")
    return "\n\n".join("\b\n" + p if p.startswith("    ") else p for p in paragraphs)


def choice(name: str, default: str | None, text: str) -> Callable[[Any], Any]:
    """An option that takes only the values that a configuration allows for the field `name`."""
    return click.option(
        f"--{name}", default=default, show_default=True, type=click.Choice(CHOICES[name]), help=text
    )


_PLACE = [
    click.option("--data", type=click.Path(path_type=Path), help="Directory of the data set."),
    click.option(
        "--workers", type=click.IntRange(1), help="Number of workers.  [default: as many as fit]"
    ),
    click.option(
        "--cpus-per-worker", type=float, default=1.0,
        show_default=True, help="CPU cores, and threads, of each worker.",
    ),
    click.option(
        "--gpus-per-worker", type=float, default=0.0, show_default=True,
        help="GPUs of each worker; a fraction means that workers share one.",
    ),
    click.option(
        "--cpu-workers", type=click.IntRange(0), default=0, show_default=True,
        help="Number of CPU workers beside the GPU workers, for the fixed sums.",
    ),
    click.option(
        "--device", type=click.Choice(["auto", "cpu", "cuda"]), default="auto", show_default=True,
        help="auto: the GPU that Ray assigned to the worker, or else its CPU cores.",
    ),
    click.option(
        "--address",
        help="Address of the Ray cluster: auto or HOST:PORT.  [default: RAY_ADDRESS, else a local "
        "Ray]",
    ),
]  # fmt: skip
_RUN = [
    click.option(
        "--hang-minutes", type=float, default=HANG_MINUTES, show_default=True,
        help="A worker whose shard makes no progress for so long (or for 3 times the shard's "
        "estimated time), or that answers nothing for half as long, is replaced.",
    ),
    click.option(
        "--no-preflight", is_flag=True,
        help="Start without first making the checks of python -m jobs.preflight.",
    ),
    click.option(
        "--same-everywhere", is_flag=True,
        help="With --sums library: start workers so that torch's own sums are meant to have the "
        "same bits on all x86 processors with AVX2.",
    ),
    click.option(
        "--local-debug", is_flag=True,
        help="Train in this process, one shard at a time, without Ray, so that a debugger can "
        "stop in a trial.",
    ),
]  # fmt: skip
_HOW_MUCH = [
    click.option(
        "--plan", "plan_only", is_flag=True,
        help="Check everything and print the plan, but start nothing.",
    ),
    click.option(
        "--max-hours", type=float, metavar="X",
        help="Stop after so many hours, with checkpoints; the same command goes on.",
    ),
    click.option(
        "--max-cost", type=float, metavar="X",
        help="Stop when the workers have cost so much, by the prices below.",
    ),
    click.option(
        "--price-per-gpu-hour", type=float, metavar="X",
        help="For --max-cost, and for the estimate of --plan. The currency does not matter.",
    ),
    click.option("--price-per-core-hour", type=float, metavar="X", help="The same for a CPU core."),
]  # fmt: skip
_NAME = click.option("--sweep", help="Name of the sweep.  [default: made from the set of trials]")


sums_option = click.option(
    "--sums", type=click.Choice(CHOICES["sums"]), default="fixed", show_default=True,
    help="The order in which products add up. fixed: a defined one, with the same bits on every "
    "machine; library: that of torch.nn.Linear, whose bits depend on the processor.",
)  # fmt: skip


rules_option = click.option(
    "--rules", type=TEXTS,
    help=f"Keep the cells of these rules, out of {', '.join(RULES)}; those of BP are always kept.  "
    "[default: all]",
)  # fmt: skip


_KEEP = "Where to keep the results"
_GROUPS = {
    _KEEP: [*_STORE, _NAME],
    "Where to run": [*_PLACE, *_RUN],
    "How much to spend": _HOW_MUCH,
}
_UNPRINTED = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)
"""Errors of standard output. The errors of stores and other files are InputErrors already."""
_HEADING = "heading"
"""The attribute of an option that holds the heading of its group."""


class SweepCommand(click.Command):
    """A command whose --help shows its options in groups: those of `run_options` under the headings
    that they have there, and its own first."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Writes each group's heading and options."""
        groups: dict[str, list[tuple[str, str]]] = {}
        for option in self.get_params(ctx):
            heading = getattr(option, _HEADING, "What to train")
            if (record := option.get_help_record(ctx)) is not None:
                groups.setdefault(heading, []).append(record)
        for heading, records in groups.items():
            with formatter.section(heading):
                formatter.write_dl(records)


def store_options(command: Any) -> Any:
    """Adds the options that say where results are kept. `open_store` takes their values."""
    return _with(_STORE, command)


def run_options(command: Any) -> Any:
    """Adds the options of every job that runs a sweep. `split` turns them into `RunOptions`."""
    for heading, options in reversed(_GROUPS.items()):
        command = _with(options, command, heading)
    return command


def checkpoint_option(command: Any) -> Any:
    """Adds the option of jobs that have checkpoints."""
    every = click.option(
        "--checkpoint-every", type=click.IntRange(0), default=1, show_default=True,
        help="Epochs between two checkpoints of a shard, in long epochs a minute; 0: none.",
    )  # fmt: skip
    return _with([every], command, _KEEP)


def preflight_options(command: Any) -> Any:
    """Adds the options of `jobs.preflight`. `resources_from` takes some of their values."""
    return _with([*_STORE, *_PLACE], command)


def _with(options: Sequence[Any], command: Any, heading: str | None = None) -> Any:
    for option in reversed(options):
        command = option(command)
        if heading is not None:
            setattr(command.__click_params__[-1], _HEADING, heading)
    return command


def split(given: dict[str, Any]) -> RunOptions:
    """Takes the run options out of a command's arguments, and removes them there."""
    resources = resources_from(given)
    every = given.pop("checkpoint_every", 0)  # a job without that option has no checkpoints
    named = {f.name: given.pop(f.name) for f in fields(RunOptions) if f.name in given}
    return RunOptions(resources=resources, checkpoint_every=every, **named)


def resources_from(given: dict[str, Any]) -> Resources:
    """Takes a worker's needs out of a command's arguments, and removes them there."""
    return Resources(
        workers=given.pop("workers"),
        cpus=given.pop("cpus_per_worker"),
        gpus=given.pop("gpus_per_worker"),
        device=given.pop("device"),
        cpu_workers=given.pop("cpu_workers"),
    )


def main(command: click.Command) -> NoReturn:
    """Runs a command and exits. A user's mistake is reported in one line, without a traceback."""
    for stop in (signal.SIGINT, signal.SIGTERM):  # SIGTERM, too, ends a job as Ctrl-C does
        signal.signal(stop, _interrupt)
    if isinstance(sys.stdout, io.TextIOWrapper):  # Not every terminal has all characters.
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        code = command(standalone_mode=False)
        sys.exit(code if isinstance(code, int) else 0)
    except (click.NoSuchOption, click.MissingParameter) as error:
        path = error.ctx.command_path if error.ctx else "this command"
        _fail(f"{error.format_message().rstrip('.')}; {path} --help lists what there is")
    except click.ClickException as error:
        _fail(error.format_message())
    except (InputError, IncompleteError) as error:
        _fail(str(error))
    except OSError as error:
        if error.filename is not None or error.errno not in _UNPRINTED:
            raise
        _fail(f"the output cannot be written: {error.strerror}; send it to a place with room")
    except (KeyboardInterrupt, click.Abort):
        errors.print("interrupted: what is committed is kept; the same command goes on from there")
        sys.exit(130)


def _interrupt(signum: int, frame: object) -> NoReturn:
    INTERRUPTED.set()
    raise KeyboardInterrupt


def _fail(message: str) -> NoReturn:
    errors.print(f"error: {in_a_line(message)}", style="red", soft_wrap=True)
    sys.exit(2)
