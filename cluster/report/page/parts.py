"""The parts of a report page. Each part with numbers holds the answer of the query that gives them.

An experiment makes sections of these parts. How a part looks is up to the template, the style sheet
and the script beside this file.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from pcworker.row import Row

PAGE = "index.html"
"""The name of the page's file among the files of a report."""


@dataclass(frozen=True)
class Answered:
    """A query and its result. The page shows numbers of the result only, so they cannot differ."""

    sql: str
    columns: tuple[str, ...]
    rows: tuple[Row, ...]


Ask: TypeAlias = Callable[[str], Answered]
"""Answers SQL with the tables of the sweep."""


@dataclass(frozen=True)
class Paragraph:
    """Sentences. A line that starts with "- " becomes an item of a list."""

    text: str


@dataclass(frozen=True)
class Fact:
    """Something that is known of the whole sweep, with a name."""

    name: str
    value: str
    is_bad: bool = False
    """True if a reader must not miss it."""


@dataclass(frozen=True)
class FactSheet:
    """Facts that are in no table, and where they stand."""

    facts: tuple[Fact, ...]
    source: str
    """A sentence that says where the facts come from."""
    module: str | None = None
    """The command that tells them as well, without store and sweep, such as `jobs.collect`."""


@dataclass(frozen=True)
class Shown:
    """A column of a listing."""

    title: str
    of: str | Callable[[Row], Any]
    """The name of a column of the answer, or a function of its rows for what no table holds, such
    as a number of the paper."""
    text: Callable[[Any], str] | None = None
    """Formats a number that is not None. By default it has about three digits."""


@dataclass(frozen=True)
class DataTable:
    """An answer as a table. Its rows can be sorted by each column."""

    title: str
    answer: Answered
    columns: tuple[Shown, ...]


@dataclass(frozen=True)
class Traceback:
    """A long text under a line that opens it."""

    summary: str
    text: str


@dataclass(frozen=True)
class Tracebacks:
    """Long texts of rows of the table above them."""

    each: tuple[Traceback, ...]


TileKind: TypeAlias = Literal["value", "exact", "zero", "nonfinite", "missing"]


@dataclass(frozen=True)
class Tile:
    """A cell of a heat map."""

    kind: TileKind
    """What it shows: a value; a zero that is exact or one that is not; or that there is none."""
    text: str = ""
    shade: int = 0
    """The place of a value's colour, from 0 to SHADES - 1."""
    row: int | None = None
    """The place of its row in the answer; None if the cell was not declared."""


SHADES = 9
"""The number of colours of a heat map."""


@dataclass(frozen=True)
class HeatMap:
    """A table of coloured cells; `tiles[row][column]`."""

    title: str
    row_name: str
    rows: tuple[str, ...]
    column_name: str
    columns: tuple[str, ...]
    tiles: tuple[tuple[Tile, ...], ...]


@dataclass(frozen=True)
class HeatMaps:
    """Heat maps of one measure, which share an answer and a scale of colours."""

    maps: tuple[HeatMap, ...]
    answer: Answered
    told: Mapping[str, str]
    """What is told of a cell under the pointer: columns of the answer by their names in words."""
    key: str
    """The column of the answer by which a cell finds its curves."""
    scale: tuple[str, ...] = ()
    """The lowest value of each colour, as text; empty if no cell has a colour."""


@dataclass(frozen=True)
class Curve:
    """A line of a plot: columns of the answer, each of which holds a list of numbers."""

    name: str
    y: str
    low: str | None = None
    high: str | None = None
    """The columns with the edges of a band around the line."""


@dataclass(frozen=True)
class Plot:
    """Curves over the same horizontal axis."""

    title: str
    curves: tuple[Curve, ...]
    is_logarithmic: bool = False


@dataclass(frozen=True)
class Plots:
    """Plots of the cell that is chosen in a heat map."""

    answer: Answered
    """It has a row for each cell."""
    key: str
    """The column that names a cell."""
    names: tuple[str, ...]
    """The columns that describe a cell in words, for the plots' caption."""
    x: str
    """The column with the horizontal places, a list for each cell."""
    plots: tuple[Plot, ...]
    first: str
    """The key of the cell that is shown first."""


PagePart: TypeAlias = Paragraph | FactSheet | DataTable | Tracebacks | HeatMaps | Plots


@dataclass(frozen=True)
class Section:
    """Parts under a common heading."""

    title: str
    parts: Sequence[PagePart]
