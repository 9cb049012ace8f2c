"""Does this machine give the defined bits?

This command computes functions, products, random streams and trainings, and compares their digests
with those in the repository. Run it on a new kind of machine, or with a new compiler. It needs no
data and no Ray. It takes less than a minute, most of it for compiling, or some minutes if the
processor has no fma. The exit code is 0 if all digests are the defined ones, 1 if one differs, and
2 without a C compiler.
"""

import click

from jobs.options import console, help_text, main
from jobs.verify.check import Check
from jobs.verify.digests import as_table, checks, chosen_by, defined, found_digests, outcomes
from jobs.verify.gpu import trainings_on
from jobs.verify.report import about_this_machine, conclusion, outcome_table
from pcworker.errors import InputError
from pcworker.kernels.cuda.nvrtc import CudaError
from pcworker.kernels.cuda.torch_gpu import TorchGpu
from pcworker.machine.device import prepare_device


@click.command(help=help_text(__doc__), context_settings={"max_content_width": 100})
@click.option(
    "--all",
    "every",
    is_flag=True,
    help="Also compute exp, sigmoid and tanh of all 2^32 inputs of float32, as a proof. That takes "
    "one to two minutes.",
)
@click.option(
    "--only", default="", metavar="TEXT", help="Make only the checks with this text in their name."
)
@click.option(
    "--machine/--gpu",
    default=True,
    help="Check the CPU, or the trainings on the GPU.  [default: machine]",
)
@click.option(
    "--print-digests",
    is_flag=True,
    help="Print a new table of digests, those of --all included, and compare nothing.",
)
def command(every: bool, only: str, machine: bool, print_digests: bool) -> int:
    """The command line: see the module's docstring."""
    if not machine and (every or print_digests):
        raise InputError("--gpu makes the checks of trainings alone: leave out the other option")
    prepare_device("cpu", gpus=0, cpus=1)
    chosen = chosen_by(only, checks(every=every or print_digests) if machine else _on_this_gpu())
    if print_digests:
        click.echo(as_table(found_digests(chosen)))
        return 0
    console.print(about_this_machine())
    made = list(outcomes(chosen, defined()))
    console.print(outcome_table(made))
    console.print(conclusion(made))
    return 0 if all(each.same for each in made) else 1


def _on_this_gpu() -> list[Check]:
    device = prepare_device("cuda", gpus=1, cpus=1)
    try:
        return trainings_on(TorchGpu(device))
    except CudaError as error:
        raise InputError(str(error)) from None


if __name__ == "__main__":
    main(command)
