"""Says which columns a table has, and what each of them is for."""

import difflib
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

import pyarrow as pa

from cluster.experiment import Experiment
from cluster.query.views import row_types
from pcworker.errors import InputError
from pcworker.row import columns
from pcworker.store.parquet import schema_of
from pcworker.store.result import CIRCUMSTANCES

SWEEP = "sweep"
"""The column that every view has: see `Session`."""
_NO_MEASURES = frozenset((*CIRCUMSTANCES, SWEEP, "trial_id", "seed", "engine_version"))


@dataclass(frozen=True, kw_only=True)
class Shape:
    """The columns of a table, and those that another table lends it by the trials' ids."""

    table: str
    own: Mapping[str, pa.DataType]
    """The types of its own columns, and of the column `sweep`."""
    axes: tuple[str, ...]
    """Its columns that say, beside the configuration, what a row is about."""
    lender: str | None
    """The table that has the configuration of each trial, if this table has only the ids."""
    lent: Mapping[str, pa.DataType]
    """The types of the columns of the configuration, in that table."""
    configuration: tuple[str, ...]
    """The columns of the configuration, its own or lent."""
    measures: tuple[str, ...]
    """Its columns that hold results, without lists."""

    @property
    def types(self) -> Mapping[str, pa.DataType]:
        """The types of all columns, by name."""
        return {**self.lent, **self.own}

    def require(self, name: str) -> None:
        """Raises InputError, with names that are near, if there is no such column."""
        if name not in self.types:
            raise unknown(f"column of the table {self.table} with the name", name, self.types)


def shape_of(table: str, experiments: Sequence[Experiment]) -> Shape:
    """The shape of a table of these experiments. Raises InputError if none of them has it."""
    kinds = [(each, row_types(each)) for each in experiments]
    mine = [(each, of[table]) for each, of in kinds if table in of]
    if not mine:
        raise unknown("table", table, {name for _, of in kinds for name in of})
    own = _types(kind for _, kind in mine)
    configurations: list[type] = [each.configuration for each, _ in mine]
    fields = dict.fromkeys(c.name for kind in configurations for c in columns(kind))
    axes = dict.fromkeys(c.name for _, kind in mine for c in columns(kind) if c.is_axis)
    lenders = {each.tables.per_trial for each, _ in mine}
    lent: dict[str, pa.DataType] = {}
    if "trial_id" in own and table not in lenders and len(lenders) == 1:
        types = _types(row_types(each)[each.tables.per_trial] for each, _ in mine)
        lent = {name: types[name] for name in _configured(types, fields) if name not in own}
    configured = {*fields, *axes, *_configured(own, fields)}
    return Shape(
        table=table,
        own=own,
        axes=tuple(axes),
        lender=lenders.pop() if lent else None,
        lent=lent,
        configuration=tuple(f for f in fields if (f in own or f in lent) and f not in axes),
        measures=tuple(
            name
            for name, kind in own.items()
            if name not in _NO_MEASURES | configured and not pa.types.is_list(kind)
        ),
    )


def unknown(what: str, name: str, known: Iterable[str]) -> InputError:
    """The error for a name that does not exist. It lists names that are near, or all."""
    near = difflib.get_close_matches(name, known, 4, 0.5) or sorted(known)
    return InputError(f"there is no {what} {name!r}; use one of {', '.join(near)}")


def _types(kinds: Iterable[type]) -> dict[str, pa.DataType]:
    schemas = [schema_of(kind) for kind in kinds]
    return {SWEEP: pa.string()} | {field.name: field.type for each in schemas for field in each}


def _configured(types: Mapping[str, pa.DataType], fields: Collection[str]) -> Sequence[str]:
    """The columns of a configuration, and those that stand between them, such as `hidden_layers`,
    because they follow from them."""
    names = list(types)
    places = [place for place, name in enumerate(names) if name in fields]
    among = names[places[0] : places[-1] + 1] if places else []
    return [name for name in among if name not in CIRCUMSTANCES]
