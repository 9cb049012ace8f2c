"""The detection runs on the report page: Table 3 beside the paper's rates."""

from collections.abc import Sequence

from cluster.report.page.parts import Ask, DataTable, Paragraph, Section, Shown
from jobs.detection_rate.configuration import T_D
from jobs.detection_rate.shown.report import percent
from jobs.detection_rate.shown.views import BASE, PAPER, setting
from pcworker.row import Row


def detection_sections(ask: Ask) -> Sequence[Section]:
    """The section with the success rates of every setting."""
    rates = ", ".join(
        f'100.0 * sum(only_at_l) FILTER (t_d = {t_d}) / sum(pairs) FILTER (t_d = {t_d}) AS "{t_d}"'
        for t_d in T_D
    )
    paper = ", ".join(f'{rate}::DOUBLE AS "{t_d}"' for t_d, rate in PAPER.items())
    names = ", ".join(_AXES)
    answer = ask(f"""
        SELECT 'paper, Table 3' AS source, {", ".join(f"NULL AS {name}" for name in _AXES)},
               {paper}
        UNION ALL
        SELECT * FROM (
          SELECT 'here' AS source, {names},
                 {rates}
          FROM detection WHERE status <> 'failed'
          GROUP BY {names}
          ORDER BY {", ".join(f"{name} IS DISTINCT FROM {_sql(BASE[name])}" for name in BASE)},
                   stage DESC, tolerance, hidden_layers, horizon DESC, {names}
        )
    """)
    columns = (
        Shown("setting", _name),
        *(Shown(name, name) for name in ("network", "stage", "horizon", "tolerance")),
        *(Shown(f"t_d {t_d}", str(t_d), percent) for t_d in T_D),
    )
    base = ", ".join(f"{name} {value}" for name, value in BASE.items())
    text = (
        "How often phi spikes at t = l and at no other t up to the horizon: per cent of all pairs "
        "of a neuron and a sample, by t_d. The paper states neither its network, nor the "
        "activation, the stage of training and the horizon, nor what a success is. The setting "
        f"base has the paper's equations as they are printed ({base}). Other settings are named "
        "by their differences from it."
    )
    listing = DataTable("Table 3: success of detection, %", answer, columns)
    return [Section("Table 3: how often phi finds t = l", [Paragraph(text), listing])]


_AXES = ("network", "hidden_layers", *BASE, "stage", "horizon", "tolerance")


def _name(row: Row) -> str:
    return setting(row) if row["source"] == "here" else str(row["source"])


def _sql(value: object) -> str:
    return f"'{value}'" if isinstance(value, str) else repr(value)
