"""Tests of how answers are shown: as files, on a terminal, at a prompt, and what columns mean."""

import csv
import io
import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from builders import ablation, commit, commit_all, planned
from prompt_toolkit.application import create_app_session
from prompt_toolkit.completion import CompleteEvent
from prompt_toolkit.document import Document
from prompt_toolkit.history import FileHistory
from prompt_toolkit.input import create_pipe_input
from prompt_toolkit.input.base import PipeInput
from prompt_toolkit.output import DummyOutput
from rich.console import Console

from cluster.experiment import Experiment
from cluster.query.answer import Answer
from cluster.query.formats import WRITERS
from cluster.query.meanings import column_meanings, said
from cluster.query.prompt import Conversation, completer, converse
from cluster.query.screen import MOST_LINES, print_answer
from cluster.query.session import Session
from cluster.query.shape import shape_of
from cluster.query.views import Asked, row_types
from cluster.sweeps.plan import Plan
from jobs.experiments import EXPERIMENTS
from pcworker.errors import InputError
from pcworker.store.local import LocalStore

NUMBERS = [0.1 + 0.2, 5e-324, -1.7976931348623157e308, 0.0, None, math.inf]
STRANGE = pa.table(
    {
        "a_b": NUMBERS,
        "text": ["x|y", 'q"u,o', None, "two\nlines", "\x1b[31mred", "50 % & $"],
        "list": [[0.1, math.nan], [], None, [1.0], [2.0], [3.0]],
        "whole": pa.array([2**63 - 1, None, 0, 1, 2, 3], pa.int64()),
        "is_so": [True, None, False, True, True, True],
    }
)


def made(kind: str, answer: pa.Table = STRANGE) -> str:
    text = WRITERS[kind](answer)
    assert isinstance(text, str)
    return text


def test_csv_keeps_every_digit_and_tells_null_from_nothing() -> None:
    rows = list(csv.DictReader(io.StringIO(made("csv"))))
    for row, expected in zip(rows, STRANGE.to_pylist(), strict=True):
        assert row["a_b"] == "" if expected["a_b"] is None else float(row["a_b"]) == expected["a_b"]
        assert row["whole"] == ("" if expected["whole"] is None else str(expected["whole"]))
        assert row["text"] == (expected["text"] or "")
    assert json.loads(rows[0]["list"]) == [0.1, "NaN"]
    assert made("csv", pa.table({"t": ["", None]})) == '"t"\n""\n\n'


def test_json_is_strict_and_keeps_every_digit() -> None:
    def refuse(name: str) -> None:
        raise AssertionError(f"{name} is no JSON")

    rows = json.loads(made("json"), parse_constant=refuse)
    assert [row["a_b"] for row in rows] == [*NUMBERS[:-1], "Infinity"]
    assert [row["whole"] for row in rows] == STRANGE["whole"].to_pylist()
    assert rows[0]["list"] == [0.1, "NaN"]


def test_parquet_is_the_answer() -> None:
    data = WRITERS["parquet"](STRANGE)
    assert isinstance(data, bytes)
    read = pq.read_table(io.BytesIO(data)).replace_schema_metadata(None)
    # NaN differs from itself; its text does not
    assert repr(read.to_pylist()) == repr(STRANGE.to_pylist())


def test_latex_is_for_booktabs_and_escapes() -> None:
    lines = made("latex").splitlines()
    assert lines[:3] == [
        r"\begin{tabular}{rllrl}",
        r"\toprule",
        r"a\_b & text & list & whole & is\_so \\",
    ]
    assert r"inf & 50 \% \& \$ & [3] & 3 & true \\" in lines
    assert lines[-2:] == [r"\bottomrule", r"\end{tabular}"]


def test_markdown_has_as_many_cells_in_every_row() -> None:
    lines = made("markdown").splitlines()
    assert len(lines) == 2 + len(STRANGE)
    assert {line.replace(r"\|", "").count("|") for line in lines} == {6}
    assert lines[1].startswith("|-----") and lines[1].split("|")[1].endswith(":")


def test_plain_text_is_not_cut() -> None:
    long = pa.table({"value": [[float(k) for k in range(5000)]], "text": ["x" * 3000]})
    text = made("table", long)
    assert "4999]" in text
    assert "x" * 3000 in text
    assert "\x1b" not in made("table")


def test_only_zero_is_shown_as_zero() -> None:
    lines = made("table", pa.table({"x": [0.0, -0.0, 5e-324, 1.0]})).splitlines()
    assert [line.strip() for line in lines[2:]] == ["0.0", "0.0", "4.94066e-324", "1"]


@pytest.mark.parametrize("kind", WRITERS)
def test_an_answer_without_rows_has_its_columns(kind: str) -> None:
    written = WRITERS[kind](STRANGE.slice(0, 0))
    assert kind == "json" or (b"a_b" if isinstance(written, bytes) else "a") in written
    if kind == "json":
        assert json.loads(written) == []


def on_terminal(answer: pa.Table, width: int) -> str:
    sink = io.StringIO()
    print_answer(Console(file=sink, width=width, force_terminal=False), answer)
    return sink.getvalue()


@pytest.mark.parametrize("width", [60, 90, 200])
def test_no_number_is_cut_on_a_terminal(width: int) -> None:
    numbers = [1.23456e-100 * 10**k for k in range(8)]
    answer = pa.table({f"a_long_name_{k}": [value] for k, value in enumerate(numbers)})
    text = on_terminal(answer, width)
    assert all(f"{value:.6g}" in text for value in numbers)
    assert max(map(len, text.splitlines())) <= width
    assert ("row 1" in text) == (width < 200)


def test_a_terminal_gets_a_part_of_a_long_answer_and_the_number_of_its_rows() -> None:
    text = on_terminal(pa.table({"n": range(MOST_LINES + 1)}), 80)
    assert f"{MOST_LINES} of 501 rows" in text
    assert " of " not in on_terminal(pa.table({"n": range(MOST_LINES)}), 80)


def test_other_libraries_get_every_bit() -> None:
    answer = Answer(STRANGE)
    frame = answer.pandas()
    assert frame["whole"].dtype == pd.Int64Dtype()
    assert int(frame["whole"][0]) == 2**63 - 1
    assert frame["whole"].isna().tolist() == [False, True, False, False, False, False]
    assert frame["a_b"].tolist()[:4] == NUMBERS[:4]
    assert math.isnan(frame["a_b"][4])
    assert Answer(STRANGE.slice(2)).pandas()["whole"].dtype == "int64"
    polars = answer.polars()
    assert isinstance(polars, pl.DataFrame)
    assert polars["whole"].to_list() == STRANGE["whole"].to_pylist()
    assert answer.arrow() is STRANGE
    assert (len(answer), answer.columns[0]) == (6, "a_b")


def test_a_notebook_shows_a_table() -> None:
    html = Answer(STRANGE)._repr_html_()
    assert "<table" in html and "9223372036854775807" in html
    text = repr(Answer(pa.table({"n": range(100), "v": [[1.0] * 9] * 100})))
    assert "... 100 rows" in text and "[1, 1, 1, ... 9 values]" in text
    assert len(text.splitlines()) < 30


@pytest.mark.parametrize("experiment", EXPERIMENTS.values(), ids=lambda each: each.name)
def test_every_column_of_every_table_has_a_meaning(experiment: Experiment) -> None:
    rows = column_meanings([experiment]).to_pylist()
    for table in row_types(experiment):
        mine = [row for row in rows if row["table"] == table]
        named = [each.split() for row in mine for each in row["columns"].split(", ")]
        assert sorted(name for name, _ in named) == sorted(shape_of(table, [experiment]).own)
        assert all(len(row["meaning"]) > 15 for row in mine), mine
        assert not any("`" in row["meaning"] or "](" in row["meaning"] for row in mine)


def meaning(experiment: str, table: str, column: str) -> str:
    rows = column_meanings([EXPERIMENTS[experiment]], table).to_pylist()
    (found,) = (row for row in rows if f" {column} " in f" {row['columns'].replace(',', ' ')} ")
    return str(found["meaning"])


def test_the_meaning_is_the_readmes() -> None:
    assert "10,000 test digits" in meaning("ablation", "trials", "final_test_error")
    assert "sum over layers of the L2 norm" in meaning(
        "ablation", "divergence", "weight_divergence_l2_sd"
    )
    assert "declared one" in meaning("ablation", "divergence", "gamma")
    assert "loop with loading" in meaning("timing", "timings", "loop_ratio_to_bp_p90")
    assert "bit for bit" in meaning("timing", "timings", "exact")
    assert "|eps|" in meaning("detection", "detection", "tolerance")
    assert "A+B" in meaning("ablation", "epochs", "sweep")


PAGE = """
## The table `mine`

| column | meaning |
|---|---|
| `a` ... `c` | the first ones |
| `d_mean`, `_sd` | of d, with a [link](x/y.md) and a \\| bar |
| `e_median`, `f_median` (and `_p10`) | of both |

| column | elsewhere |
|---|---|
| `a` | not a meaning |

| table | column | meaning |
|---|---|---|
| `other` | `a` | another table's |
| `mine` | `g`* | the last |
"""


def test_a_row_may_explain_several_columns() -> None:
    columns = ["a", "b", "c", "d_mean", "d_sd", "e_median", "e_p10", "f_median", "f_p10", "g"]
    assert said(PAGE, "mine", columns) == {
        **dict.fromkeys("abc", "the first ones"),
        **dict.fromkeys(("d_mean", "d_sd"), "of d, with a link and a | bar"),
        **dict.fromkeys(("e_median", "e_p10", "f_median", "f_p10"), "of both"),
        "g": "the last",
    }
    assert said(PAGE, "other", ["a"]) == {"a": "another table's"}


def test_a_table_that_is_not_there_has_no_meaning() -> None:
    with pytest.raises(InputError, match="'trial'; use one of trials"):
        column_meanings(list(EXPERIMENTS.values()), "trial")


class Shown:
    """What a conversation has shown and said."""

    def __init__(self, store: LocalStore, plan: Plan) -> None:
        self.tables: list[list[Any]] = []
        self.lines: list[str] = []
        self.session = Session(store, [Asked((plan,))])
        self.conversation = Conversation(
            self.session, lambda answer: self.tables.append(answer.to_pylist()), self.lines.append
        )


@pytest.fixture
def typing(tmp_path: Path) -> Iterator[PipeInput]:
    """The keyboard of a terminal that shows nothing."""
    with create_pipe_input() as keys, create_app_session(input=keys, output=DummyOutput()):
        yield keys


def test_a_conversation_goes_on_after_mistakes(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    plan = planned(store, ablation(), "a")
    first, second = plan.shards
    shown = Shown(store, plan)
    ask = shown.conversation.answers
    assert ask("SELECT count(*) AS n FROM trials;")
    commit(store, plan, first)
    assert ask("SELECT count(*) AS n FROM trials")
    commit(store, plan, second)
    assert (
        ask("BEGIN")
        and ask("SELEC nonsense")
        and ask(".nonsense")
        and ask(".schema trails")
        and ask("  ")
    )
    assert ask("SELECT count(*) AS n FROM trials")
    assert shown.tables == [[{"n": 0}], [{"n": len(first.trials)}], [{"n": 8}]]
    assert shown.lines[0] == "a: 8 of 8 trials have no result"
    mistakes = shown.lines[2:]
    assert [line[:7] for line in mistakes] == ["error: "] * 4
    assert not any("\n" in line for line in mistakes)
    assert ask(".tables") and "divergence" in shown.lines[-1]
    assert ask(".schema epochs") and "epoch" in str(shown.tables[-1])
    assert ask(".help") and ".quit" in shown.lines[-1]
    for line in ("help", "HELP;", "?"):
        shown.lines.clear()
        assert ask(line) and ".quit" in shown.lines[-1]
    assert not any(ask(line) for line in (".quit", ".exit", "quit", "exit;", "Exit"))


def test_a_prompt_remembers_and_is_left(tmp_path: Path, typing: PipeInput) -> None:
    store = LocalStore(tmp_path / "store")
    plan = planned(store, ablation(), "a")
    commit_all(store, plan)
    shown = Shown(store, plan)
    typing.send_text("SELECT count(*)\x1b\rAS n FROM divergence\r")  # Alt-Enter
    typing.send_text("half a line\x03")  # Ctrl-C
    typing.send_text("SELECT 1 AS one\r")
    typing.send_text("\x04")  # Ctrl-D
    converse(shown.conversation, shown.session, tmp_path / "cache")
    assert shown.tables == [[{"n": 10}], [{"one": 1}]]
    kept = list(FileHistory(str(tmp_path / "cache" / "query-history")).load_history_strings())
    assert kept == ["SELECT 1 AS one", "SELECT count(*)\nAS n FROM divergence"]


def test_a_prompt_without_a_folder_for_its_history_works(tmp_path: Path, typing: PipeInput) -> None:
    store = LocalStore(tmp_path / "store")
    plan = planned(store, ablation(), "a")
    (tmp_path / "file").touch()
    shown = Shown(store, plan)
    typing.send_text("SELECT 1 AS one\r.quit\r")
    converse(shown.conversation, shown.session, tmp_path / "file" / "cache")
    assert shown.tables == [[{"one": 1}]]


@pytest.mark.parametrize(
    ("typed", "completed"),
    [
        ("SELECT * FROM diverg", ["divergence"]),
        ("SELECT t.final_t", ["final_test_error"]),
        ("selec", ["SELECT"]),
        (".sch", [".schema"]),
        ("SELECT avg(twin_", ["twin_test_error"]),
        ("SELECT nothing_like", []),
    ],
)
def test_tables_columns_and_sql_are_completed(
    tmp_path: Path, typed: str, completed: list[str]
) -> None:
    store = LocalStore(tmp_path)
    words = completer(Shown(store, planned(store, ablation(), "a")).session)
    found = words.get_completions(Document(typed), CompleteEvent())
    assert [each.text for each in found] == completed
