"""Answers with a table in a few words instead of SQL: its summary over seeds, or its rows."""

import pyarrow as pa

from cluster.query.session import Session
from cluster.query.shape import shape_of
from cluster.query.summary import (
    Wanted,
    default_groups,
    rows_query,
    summary_query,
    text_measures,
    values_query,
    varying_query,
)


def rows_of(session: Session, table: str, wanted: Wanted) -> pa.Table:
    """The rows of a table. Raises InputError for a name that does not exist or a wrong value."""
    return session.ask(*rows_query(shape_of(table, session.experiments), wanted))


def summary_of(session: Session, table: str, wanted: Wanted) -> pa.Table:
    """The summary of a table. Raises InputError for a name that does not exist or a wrong value."""
    shape = shape_of(table, session.experiments)
    groups = wanted.group_by
    for name in groups or ():
        shape.require(name)
    session.look([name for name in (table, shape.lender) if name])  # All statements see the same.
    if groups is None:
        counts = {}
        if shape.configuration:
            (counts,) = session.again(*varying_query(shape, wanted)).to_pylist()
        groups = default_groups(shape, counts, len(session.experiments) == 1)
    texts = {
        name: session.again(*values_query(shape, wanted, name)).column(0).to_pylist()
        for name in text_measures(shape, wanted)
    }
    return session.again(*summary_query(shape, wanted, groups, texts))
