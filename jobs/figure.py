"""Draws a figure for a paper: one panel, or all, each in a file.

The file holds vectors (PDF, SVG) or 600 dots per inch (PNG), its fonts, and no date: the same table
gives the same bytes. Letters have 7 to 8 points if the figure is included at its own width. What is
committed now is drawn, so a sweep need be neither finished nor collected.
"""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import click

from cluster.query.views import Asked, Views, reading_rows
from cluster.report.drawing import DrawPanel, drawn_for_paper
from cluster.results.collect import stored_plans
from jobs.experiments import EXPERIMENTS
from jobs.options import console, errors, help_text, main, store_options, sweep_names
from pcworker.errors import InputError
from pcworker.store.store import open_store

_UNITS = {"in": 1.0, "cm": 1 / 2.54, "mm": 1 / 25.4, "pt": 1 / 72.27}
"""The inches of each unit. A point is TeX's, because \\the\\columnwidth says these."""
_NARROWEST, _WIDEST = 2.5, 20.0


class Width(click.ParamType[float]):
    """An option's type: a width such as `5.5in`, as a number of inches."""

    name = "WIDTH"

    def convert(self, value: Any, param: Any, ctx: Any) -> float:
        """Returns the inches."""
        if isinstance(value, float):
            return value
        found = re.fullmatch(r"(\d{1,6}(?:\.\d{1,6})?) ?(in|cm|mm|pt)", str(value))
        inches = float(found[1]) * _UNITS[found[2]] if found else 0.0
        if not _NARROWEST <= inches <= _WIDEST:
            self.fail(
                f"{value!r} is not a width from {_NARROWEST}in to {_WIDEST:g}in; write 5.5in, "
                "14cm, 140mm or 397.5pt",
                param,
                ctx,
            )
        return inches


@click.command(help=help_text(__doc__), context_settings={"max_content_width": 100})
@store_options
@sweep_names
@click.option(
    "--panel",
    default="all",
    show_default=True,
    metavar="NAME",
    help="The panel; all: every panel. A name that is unknown lists the known ones.",
)
@click.option(
    "--format", "kind", default="pdf", show_default=True, type=click.Choice(["pdf", "svg", "png"])
)
@click.option(
    "--width",
    default="5.5in",
    show_default=True,
    type=Width(),
    help="The width in the paper, such as 5.5in, 14cm, 140mm or 397.5pt.",
)
@click.option(
    "--output", type=click.Path(path_type=Path),
    help="The file, or with --panel all the folder.  [default: SWEEP-PANEL.FORMAT here]",
)  # fmt: skip
def command(
    store: str,
    s3_endpoint: str | None,
    sweep: Sequence[str],
    panel: str,
    kind: str,
    width: float,
    output: Path | None,
) -> int:
    """The command line: see the module's docstring."""
    opened = open_store(store, s3_endpoint)
    asked = Asked(tuple(stored_plans(opened, sweep, EXPERIMENTS)))
    views = Views(opened, asked)
    for name, draw in _chosen(_found(views), panel).items():
        file = f"{asked.name}-{name}.{kind}"
        path = Path(file) if output is None else output / file if panel == "all" else output
        _write(path, drawn_for_paper(draw, width, kind))
        console.print(f"Figure: {path}", soft_wrap=True)
    for line in views.remarks:
        errors.print(line, style="yellow", soft_wrap=True)
    return 0


def _found(views: Views) -> Mapping[str, DrawPanel]:
    """The panels of the sweep. Raises InputError if there is none."""
    experiment = views.asked.experiment
    panels = experiment.panels
    if panels is None:
        raise InputError(f"the experiment {experiment.name} has no figures; jobs.query has tables")
    rows = views.rows([panels.table])[panels.table]
    with reading_rows():
        found = panels.find(rows.to_table().to_pylist())
    if not found:
        raise InputError(f"{views.asked.name} has no cells of a figure, or none with a result yet")
    return found


def _chosen(found: Mapping[str, DrawPanel], panel: str) -> Mapping[str, DrawPanel]:
    if panel == "all":
        return found
    if panel not in found:
        raise InputError(f"there is no panel {panel!r} here; choose of {', '.join(found)}, or all")
    return {panel: found[panel]}


def _write(path: Path, data: bytes) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    except OSError as error:
        raise InputError(f"{path}: {error.strerror or error}; name another --output") from error


if __name__ == "__main__":
    main(command)
