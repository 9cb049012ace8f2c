"""Writes a report page: one HTML file that holds its numbers, their queries, its style and its
script, and refers to nothing outside it."""

import base64
import gzip
import hashlib
import json
import math
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from cluster.report.page.parts import Answered, DataTable, Plots, Section, Shown
from cluster.report.terminal import number
from pcworker.text import printable

_HERE = Path(__file__).parent
ROWS = 1000
"""The number of rows that a listing shows. The rows that it holds for downloads are all."""


@dataclass(frozen=True)
class Head:
    """What the top of a page says."""

    title: str
    subtitle: str
    warnings: tuple[str, ...]
    """Sentences that a reader must not miss, such as that results are missing."""
    query_command: str
    """The command that answers a query, without the query."""
    command_of: Mapping[str, str]
    """Other commands, whole, by their module."""
    figures: Mapping[str, bytes]
    """Files that the page holds for downloads."""


class ShownCell(NamedTuple):
    """A cell of a listing as the page shows it."""

    text: str
    exact: str | None
    """The whole value, if the text does not show all of its digits."""
    is_number: bool


def page_of(head: Head, sections: Sequence[Section]) -> bytes:
    """The bytes of the page."""
    book = _Book(head.query_command)
    environment = Environment(
        loader=FileSystemLoader(_HERE),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=StrictUndefined,
    )
    environment.globals["ROWS"] = ROWS
    environment.policies["json.dumps_kwargs"] = {}  # By default, the keys of objects are sorted.
    style, script = ((_HERE / name).read_text() for name in ("page.css", "page.js"))
    macros: Any = environment.get_template("body.html.jinja").module
    text = environment.get_template("page.html.jinja").render(
        head=head,
        sections=sections,
        body=macros.body(head, sections, book),
        style=Markup(style),
        script=Markup(script),
        style_sha=_sha(style),
        script_sha=_sha(script),
        data=book.data(),
        files={name: _packed(data) for name, data in head.figures.items()},
    )
    return text.encode()


class _Book:
    """The answers of a page, each once, and how the template shows them."""

    def __init__(self, command: str) -> None:
        self._command = command
        self._answers: dict[str, Answered] = {}

    def place(self, answer: Answered) -> int:
        """The place of an answer among all."""
        self._answers.setdefault(answer.sql, answer)
        return list(self._answers).index(answer.sql)

    def command(self, answer: Answered) -> str:
        """The command line that gives the answer again."""
        return f"{self._command} {shlex.quote(answer.sql)}"

    def rows(self, listing: DataTable) -> Iterator[list[ShownCell]]:
        """The rows of a listing that the page shows."""
        for row in listing.answer.rows[:ROWS]:
            yield [_cell(shown, row) for shown in listing.columns]

    def data(self) -> Markup:
        """All answers as JSON. No text in it can end the element that holds it."""
        answers = [_columns(answer) for answer in self._answers.values()]
        text = json.dumps(answers, separators=(",", ":"), allow_nan=False)
        return Markup(text.replace("<", "\\u003c"))

    @staticmethod
    def spec(plots: Plots) -> dict[str, Any]:
        """What the script must know to draw the plots."""
        told = replace(plots, answer=Answered("", (), ()))  # `asdict` would copy the answer.
        return {key: value for key, value in asdict(told).items() if key != "answer"}

    @staticmethod
    def is_numeric(listing: DataTable, place: int) -> bool:
        """True if a column holds numbers, which are aligned to the right."""
        shown = listing.columns[place]
        values = [v for row in listing.answer.rows if (v := _value(shown, row)) is not None]
        return bool(values) and all(_is_number(value) for value in values)


def _sha(text: str) -> str:
    """The digest by which the page's policy lets this text run, and no other."""
    return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def _packed(data: bytes) -> str:
    return base64.b64encode(gzip.compress(data, mtime=0)).decode()


def _columns(answer: Answered) -> dict[str, Any]:
    """An answer for JSON, column by column. A column whose values are all equal, the signs of zeros
    included, stands as one."""
    columns: list[Any] = []
    for name in answer.columns:
        values = [_plain(row[name]) for row in answer.rows]
        first = repr(values[0]) if values else ""
        same = len(values) > 1 and all(v == values[0] and repr(v) == first for v in values[1:])
        columns.append({"all": values[0]} if same else values)
    return {"sql": answer.sql, "names": answer.columns, "n": len(answer.rows), "columns": columns}


def _plain(value: Any) -> Any:
    """A value that JSON knows. JSON has no word for numbers that are not finite."""
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value


def _value(shown: Shown, row: Mapping[str, Any]) -> Any:
    return row[shown.of] if isinstance(shown.of, str) else shown.of(row)


def _cell(shown: Shown, row: Mapping[str, Any]) -> ShownCell:
    value = _value(shown, row)
    if value is None:
        return ShownCell("", None, False)
    if isinstance(value, bool):
        return ShownCell("yes" if value else "no", None, False)
    if _is_number(value):
        text = (shown.text or _short)(value)
        return ShownCell(text, None if text == repr(value) else repr(value), True)
    if isinstance(value, list):
        return ShownCell(", ".join(map(str, value)), None, False)
    return ShownCell(printable(str(value)), None, False)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _short(value: float) -> str:
    return str(value) if isinstance(value, int) else number(value)
