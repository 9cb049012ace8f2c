"""Answers questions about a sweep, also while it runs: in SQL, or in a few words about one table.

    python -m jobs.query --sweep mnist "SELECT network, count(*) FROM trials GROUP BY ALL"

    python -m jobs.query --sweep mnist --table trials --filter rule=IL --filter 't>=4'
        --group-by network,t --columns final_test_error --sort -final_test_error

    python -m jobs.query --sweep mnist --schema trials

It only reads, and it sees what is committed at that moment. Without a question it opens a prompt.

Without SQL it groups the rows of a table by everything but the seed, and gives of numbers the mean,
_sd (standard deviation), _se (standard error) and _n (the number of finite values), and of other
values how often they occur. --rows shows the rows themselves.
"""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click
import pyarrow as pa

from cluster.query.formats import WRITERS
from cluster.query.meanings import column_meanings
from cluster.query.overview import rows_of, summary_of
from cluster.query.screen import print_answer
from cluster.query.session import Session, mentioned
from cluster.query.summary import Wanted
from cluster.query.views import Asked, row_types
from cluster.results.collect import stored_plans
from cluster.sweeps.stored import sweeps_there
from jobs.experiments import EXPERIMENTS
from jobs.options import TEXTS, Terminal, console, errors, help_text, main, store_options
from pcworker.errors import InputError
from pcworker.machine.cache import cache_folder
from pcworker.store.store import open_store
from pcworker.text import printable

_PROSE = 100
"""The width of explanations in a pipe, such as that to a pager."""


def session_of(store: str, sweeps: Sequence[str], s3_endpoint: str | None = None) -> Session:
    """Opens the tables of sweeps of a store. "A+B" are two sweeps that are collected together."""
    opened = open_store(store, s3_endpoint)
    groups = [stored_plans(opened, name.split("+"), EXPERIMENTS) for name in dict.fromkeys(sweeps)]
    return Session(opened, [Asked(tuple(plans)) for plans in groups])


@click.command(help=help_text(__doc__), context_settings={"max_content_width": 100})
@click.argument("sql", required=False)
@store_options
@click.option(
    "--sweep",
    type=TEXTS,
    help="Name of the sweep. Several names with commas are told apart by the column sweep; A+B are "
    "collected together.",
)
@click.option("--table", help="A table to be summarised, instead of SQL.")
@click.option(
    "--filter",
    "filters",
    multiple=True,
    metavar="CONDITION",
    help="Rows of --table that count, such as rule=IL, t=4|16, 't>=4', t=null. Several conditions "
    "hold at once.",
)
@click.option("--group-by", type=TEXTS, help="Columns by which --table is grouped.")
@click.option("--columns", type=TEXTS, help="Columns of --table that are summarised or shown.")
@click.option(
    "--sort",
    type=TEXTS,
    default=(),
    help="Columns to sort by, with a - if the largest is first; of a summarised column its mean.",
)
@click.option("--limit", type=click.IntRange(0), help="The number of rows of the answer, at most.")
@click.option("--rows", is_flag=True, help="Show rows of --table, and no summary.")
@click.option(
    "--schema",
    is_flag=False,
    flag_value="",
    metavar="[TABLE]",
    help="Explain the columns of a table, or of all tables.",
)
@click.option(
    "--format",
    "kind",
    type=click.Choice(list(WRITERS)),
    default="table",
    show_default=True,
    help="csv, json and parquet keep every digit.",
)
@click.option("--output", type=click.Path(path_type=Path), help="A file for the answer.")
def command(
    sql: str | None,
    store: str,
    s3_endpoint: str | None,
    sweep: Sequence[str],
    table: str | None,
    rows: bool,
    schema: str | None,
    kind: str,
    output: Path | None,
    **words: Any,
) -> int:
    """The command line: see the module's docstring."""
    asked = [name for name, value in (("SQL", sql), ("--table", table)) if value]
    asked += ["--schema"] if schema is not None else []
    _require_one_question(asked, rows or any(value or value == 0 for value in words.values()))
    if kind == "parquet" and output is None and sys.stdout.isatty():
        raise InputError(
            "--format parquet is not for a terminal; give --output FILE, or use a pipe"
        )
    if schema is not None and not sweep:
        _put(column_meanings(list(EXPERIMENTS.values()), schema or None), kind, output, _PROSE)
        return 0
    if not sweep:
        there = sweeps_there(open_store(store, s3_endpoint))
        raise InputError(f"no sweep is named; give --sweep NAME of the store {store}: {there}")
    session = session_of(store, sweep, s3_endpoint)
    if not asked:
        _open_prompt(session, kind, output)
        return 0
    try:
        answer = _answer(session, sql, schema, table, rows, words)
    except InputError as error:
        raise InputError(f"{error}{_elsewhere(session, sql or table or schema or '')}") from error
    remarks = list(session.remarks)
    if words["filters"] and not answer.num_rows and words["limit"] != 0:
        remarks.append(f"no row of the table {table} fulfils {' and '.join(words['filters'])}")
    for remark in remarks:
        errors.print(remark, soft_wrap=True)
    _put(answer, kind, output, None if schema is None else _PROSE)
    return 0


def _require_one_question(asked: Sequence[str], has_words: bool) -> None:
    if len(asked) > 1:
        raise InputError(f"{' and '.join(asked)} are given; ask one question at a time")
    if has_words and asked != ["--table"]:
        raise InputError(
            "--filter, --group-by, --columns, --sort, --limit and --rows are for --table; give it, "
            "and no SQL"
        )
    if not asked and not sys.stdin.isatty():
        raise InputError(
            'nothing is asked; give SQL such as "SELECT * FROM trials", or --table NAME'
        )


def _answer(
    session: Session,
    sql: str | None,
    schema: str | None,
    table: str | None,
    rows: bool,
    words: dict[str, Any],
) -> pa.Table:
    if schema is not None:
        return column_meanings(session.experiments, schema or None)
    if table is None:
        return session.ask(sql or "")
    return (rows_of if rows else summary_of)(session, table, Wanted(**words))


def _elsewhere(session: Session, question: str) -> str:
    """Says whose a table is that a question names, if it is one of another experiment."""
    for each in EXPERIMENTS.values():
        others = [name for name in row_types(each) if name not in session.names]
        for name in mentioned(question, others):
            return f"; sweeps of python -m {each.package} have a table {name}"
    return ""


def _open_prompt(session: Session, kind: str, output: Path | None) -> None:
    if output is not None or kind == "parquet":
        raise InputError("the prompt only prints; give SQL or --table beside --output")
    from cluster.query.prompt import Conversation, converse  # prompt_toolkit is slow to import.

    conversation = Conversation(session, lambda answer: _put(answer, kind, None), console.print)
    console.print("SQL over the tables", ", ".join(session.names), "(.help says more)")
    converse(conversation, session, cache_folder())


def _put(answer: pa.Table, kind: str, output: Path | None, width: int | None = None) -> None:
    """Writes an answer into a file, or prints it.

    width  that of lines in a pipe. None: a line for each row
    """
    is_terminal = sys.stdout.isatty()
    if kind == "table" and output is None and (is_terminal or width):
        piped = Terminal(width=width, markup=False, highlight=False, emoji=False)
        print_answer(console if is_terminal else piped, answer)
        return
    if not answer.column_names:  # The statement has no result.
        return
    try:
        made = WRITERS[kind](answer)
        if output is not None:
            output.write_bytes(made if isinstance(made, bytes) else made.encode())
            return
    except pa.ArrowNotImplementedError as error:
        raise InputError(f"{kind} cannot hold this answer ({error}); cast it in SQL") from error
    except OSError as error:
        raise InputError(f"--output {output}: {error.strerror}; name another file") from error
    is_seen = isinstance(made, str) and is_terminal
    click.echo(printable(str(made)) if is_seen else made, nl=False)


if __name__ == "__main__":
    main(command)
