"""The results of a sweep in a notebook, in one line.

from jobs.notebook import results
r = results("results", "mnist")
r.sql("SELECT rule, min(final_test_error) FROM trials GROUP BY ALL")
r.trials.pandas()
r.summary("trials", where={"rule": "IL"}, columns=["final_test_error"])
r.weights(r.trials.pandas().trial_id[0], torch=True)
"""

from collections.abc import Iterable, Mapping
from typing import Any

from cluster.query.answer import Answer
from cluster.query.filters import from_values
from cluster.query.meanings import column_meanings
from cluster.query.overview import summary_of
from cluster.query.session import Session
from cluster.query.summary import Wanted
from jobs.query import session_of


def results(store: str, *sweeps: str, s3_endpoint: str | None = None) -> "Notebook":
    """Opens the results of sweeps. Several sweeps are told apart by the column `sweep`, and "A+B"
    are two sweeps that are collected together.

    store  a directory, or s3://bucket/prefix
    """
    return Notebook(session_of(str(store), sweeps, s3_endpoint))


class Notebook:
    """The tables of one or more sweeps. Each question sees what is committed at that moment."""

    def __init__(self, session: Session) -> None:
        self._session = session

    @property
    def tables(self) -> tuple[str, ...]:
        """The names of the tables."""
        return tuple(self._session.names)

    @property
    def remarks(self) -> tuple[str, ...]:
        """Lines that say what was missing at the last question."""
        return self._session.remarks

    def sql(self, query: str, *parameters: Any) -> Answer:
        """The answer to a query in DuckDB's SQL.

        parameters  the values of the question marks in the query
        """
        return Answer(self._session.ask(query, parameters))

    def table(self, name: str) -> Answer:
        """A whole table. An attribute with its name is the same, but for `weights`."""
        return Answer(self._session.ask(f'SELECT * FROM "{name}"'))

    def schema(self, table: str | None = None) -> Answer:
        """What the columns of a table mean, or those of all tables."""
        return Answer(column_meanings(self._session.experiments, table))

    def summary(
        self,
        table: str,
        *,
        group_by: Iterable[str] | None = None,
        columns: Iterable[str] | None = None,
        where: Mapping[str, Any] | Iterable[str] = (),
        sort: Iterable[str] = (),
        limit: int | None = None,
    ) -> Answer:
        """The mean, standard deviation, standard error and number of each column of numbers, and
        counts of the other values: see `python -m jobs.query --help`.

        where  values by column, such as {"rule": "IL", "t": [4, 16]}, or conditions such as "t>=4"
        """
        filters = from_values(where) if isinstance(where, Mapping) else where
        wanted = Wanted(
            filters=tuple(filters),
            group_by=None if group_by is None else tuple(group_by),
            columns=None if columns is None else tuple(columns),
            sort=tuple(sort),
            limit=limit,
        )
        return Answer(summary_of(self._session, table, wanted))

    def weights(self, trial_id: str, *, torch: bool = False) -> dict[int, dict[str, Any]]:
        """The final parameters of a trial, in their own shape and type: by layer, where 1 is the
        output layer, and by "weight" and "bias".

        torch  True for tensors of torch instead of arrays of NumPy
        """
        found = self._session.weights(trial_id)
        if not torch:
            return found
        from torch import from_numpy

        return {
            layer: {name: from_numpy(values) for name, values in parameters.items()}
            for layer, parameters in found.items()
        }

    def __getattr__(self, name: str) -> Answer:
        if name.startswith("_"):  # `copy` asks an object for such names before it has any.
            raise AttributeError(name)
        if name not in self.tables:
            raise AttributeError(f"there is no table {name!r}; there are {', '.join(self.tables)}")
        return self.table(name)

    def __dir__(self) -> Iterable[str]:
        return [*super().__dir__(), *self.tables]
