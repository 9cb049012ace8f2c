"""Writes the data card: the README.md of an archive, for readers without this project."""

from collections.abc import Iterator

from cluster.archive.facts import ArchivedSweep
from cluster.archive.layout import CRATE, MANIFEST, STORE
from pcworker.text import counted


def card_text(sweep: ArchivedSweep) -> str:
    """The text of the card."""
    return "\n".join((*_what(sweep), *_how(sweep), *_reading(sweep), *_columns(sweep)))


def _what(sweep: ArchivedSweep) -> Iterator[str]:
    whole = "all" if sweep.done == sweep.trials else f"{sweep.done} of its"
    yield f"# The sweep {sweep.name}"
    yield ""
    yield (
        f"This is a sweep of predictive-coding experiments by zilsweep, of the kind "
        f"{sweep.experiment}. It holds {whole} {sweep.trials} trials, with "
        f"{counted(len(sweep.seeds), 'seed')}: {', '.join(map(str, sweep.seeds))}."
    )
    if sweep.done < sweep.trials:
        yield (
            f"It was exported before it was finished: {sweep.done_shards} of {sweep.shards} shards "
            "were done."
        )
    yield ""
    yield f"- Licence of the data: {sweep.licence}. Exported on {sweep.exported}."
    yield "- `tables/`: the results as Parquet files. A table that is a folder has several parts."
    yield f"- `{STORE}`: the results as they were committed, from which the tables were made."
    yield f"- `{MANIFEST}`: the sha256 of every other file, for `sha256sum --check`."
    yield f"- `{CRATE}`: what stands here, for machines (RO-Crate 1.1)."
    yield ""


def _how(sweep: ArchivedSweep) -> Iterator[str]:
    yield "## How it was made"
    yield ""
    yield "```text"
    yield sweep.command or "(the command is not known)"
    yield "```"
    yield ""
    yield f"- Engine {sweep.engine_version}, sums: {sweep.sums}."
    if sweep.first:
        yield f"- Committed from {sweep.first} to {sweep.last}."
    for title, texts in (
        ("Sources", sweep.code),
        ("Versions", sweep.versions),
        ("Hardware", sweep.machines),
    ):
        yield f"- {title}: {'; '.join(texts) or 'none yet'}."
    yield ""


def _reading(sweep: ArchivedSweep) -> Iterator[str]:
    first = next(iter(sweep.columns))
    yield "## How to read it"
    yield ""
    yield "Without zilsweep:"
    yield ""
    yield "```python"
    yield "import duckdb, pandas"
    yield ""
    is_large = first in sweep.large
    path = f"tables/{first}" if is_large else f"tables/{first}.parquet"
    files = f"{path}/*.parquet" if is_large else path
    yield f'print(pandas.read_parquet("{path}"))'
    yield f"print(duckdb.sql(\"SELECT count(*) FROM '{files}'\"))"
    yield "```"
    yield ""
    yield "With it, in this folder, or after restoring it into another store:"
    yield ""
    yield "```sh"
    yield f"python -m jobs.query --store {STORE.rstrip('/')} --sweep {sweep.name} --table {first}"
    yield "python -m jobs.restore . --store OTHER"
    yield "```"
    yield ""


def _columns(sweep: ArchivedSweep) -> Iterator[str]:
    yield "## Columns"
    yield ""
    yield "A missing value is null."
    for table, rows in sweep.columns.items():
        yield ""
        yield f"### The table {table}"
        yield ""
        yield "| columns | meaning |"
        yield "|---|---|"
        for columns, meaning in rows:
            yield f"| {columns} | {meaning.replace('|', '&#124;')} |"
    yield ""
