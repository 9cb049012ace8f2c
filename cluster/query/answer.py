"""An answer as a value for notebooks: shown as a table, and handed on to other libraries."""

from typing import Any

import pandas as pd
import pyarrow as pa

from cluster.query.formats import to_text

_SHOWN = 20
"""The number of rows that `repr` shows."""
_SHORT = 3
"""The number of values of a list that `repr` shows."""


class Answer:
    """A table. Jupyter shows it as one, and `print` as text."""

    def __init__(self, rows: pa.Table) -> None:
        self._rows = rows

    def __len__(self) -> int:
        return len(self._rows)

    @property
    def columns(self) -> tuple[str, ...]:
        """The names of the columns."""
        return tuple(self._rows.column_names)

    def arrow(self) -> pa.Table:
        """The table as Arrow has it."""
        return self._rows

    def pandas(self) -> pd.DataFrame:
        """A DataFrame of pandas. Whole numbers and booleans with missing values have the types
        Int32, Int64 and boolean, so that no digit is lost; a missing float is NaN."""
        types = {pa.int32(): pd.Int32Dtype(), pa.int64(): pd.Int64Dtype()}
        nullable = {**types, pa.bool_(): pd.BooleanDtype()}
        frame = pd.DataFrame(index=pd.RangeIndex(len(self)))
        columns = {
            name: column.to_pandas(types_mapper=nullable.get if column.null_count else None)
            for name, column in zip(self.columns, self._rows.columns, strict=True)
        }
        return frame.assign(**columns)

    def polars(self) -> Any:
        """A DataFrame of Polars, which must be installed."""
        import polars

        return polars.from_arrow(self._rows)

    def __repr__(self) -> str:
        text = to_text(self._rows.slice(0, _SHOWN), _SHORT)
        more = f"... {len(self):,} rows\n" if len(self) > _SHOWN else ""
        return text + more

    def _repr_html_(self) -> str:
        html: str = self.pandas()._repr_html_()  # type: ignore[operator]
        return html
