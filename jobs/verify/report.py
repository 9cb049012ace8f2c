"""What the command prints: the machine, a line for each check, and a conclusion."""

from collections.abc import Sequence

from rich.table import Table

from jobs.verify.digests import ComparedCheck
from pcworker.kernels.fixed.library import built
from pcworker.machine.device import processor_name

_DIGITS = 16


def about_this_machine() -> str:
    """The processor, and by what and for what `phases.c` was compiled. Raises InputError if it
    cannot be compiled."""
    made_by = built("float32").code.made_by().decode()
    return f"Processor: {processor_name()}. phases.c was compiled by {made_by}."


def outcome_table(made: Sequence[ComparedCheck]) -> Table:
    """A line for each check."""
    table = Table("check", "result")
    for each in made:
        table.add_row(each.title, _result(each))
    return table


def conclusion(made: Sequence[ComparedCheck]) -> str:
    """The last line of the command."""
    wrong = sum(not each.same for each in made)
    if not wrong:
        return f"All {len(made)} checks have the defined bits."
    return (
        f"{wrong} of {len(made)} checks do not have the defined bits: results of this machine "
        "differ from those of others. Try another compiler by CC, and report this output."
    )


def _result(each: ComparedCheck) -> str:
    if each.same:
        return "ok"
    return f"differs: expected {each.expected[:_DIGITS]}, found {each.found[:_DIGITS]}"
