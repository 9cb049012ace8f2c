"""Computes the rates that the terminal shows, from the counts in the table `detection`."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from jobs.detection_rate.configuration import T_D
from pcworker.row import Row

PAPER = dict(zip(T_D, (93.4, 92.4, 99.6, 100.0, 100.0, 100.0, 100.0, 100.0, 100.0), strict=True))
"""The success rate of Table 3 in %, by t_d. The paper states neither the network, the activation,
the stage of training and the horizon, nor what a success is."""
BASE = {
    "activation": "sigmoid",
    "dtype": "float32",
    "arithmetic": "textbook",
    "gamma": 1.0,
    "weights": "learning",
}
"""The base setting, with the paper's equations as they are printed. Other settings are named by
their differences from it."""


@dataclass(frozen=True)
class Rates:
    """The rates in % of some rows together, by t_d.

    They are shares of all pairs of a neuron and a sample, unless a note says otherwise.
    """

    name: str
    success: Mapping[int, float]
    """Pairs that spike at t = l and at no other t."""
    at_l: Mapping[int, float]
    """Pairs that spike at t = l."""
    of_heard: Mapping[int, float]
    """The successes among the pairs whose error at t = l is not zero, because phi need not spike
    for the others. A t_d without any such pair is left out."""
    precision: Mapping[int, float]
    """The spikes at t = l among all spikes. A t_d without any spike is left out."""
    missed_zero: Mapping[int, float]
    """Pairs that do not spike at t = l, and whose error is zero there."""
    missed_nonzero: Mapping[int, float]
    """Pairs that do not spike at t = l, and whose error is not zero there."""
    early: Mapping[int, float]
    """Pairs that spike at some t < l."""
    late: Mapping[int, float]
    """Pairs that spike at some t > l."""


def rates(name: str, rows: Iterable[Row]) -> Rates:
    """The rates of all neurons and samples of these rows together."""
    sums: dict[int, dict[str, int]] = {}
    for row in rows:
        mine = sums.setdefault(row["t_d"], {})
        for column in _COUNTS:
            mine[column] = mine.get(column, 0) + row[column]
        mine["heard"] = mine["pairs"] - mine["missed_zero"]

    def share(column: str, of: str = "pairs") -> dict[int, float]:
        return {t_d: 100 * n[column] / n[of] for t_d, n in sorted(sums.items()) if n[of]}

    return Rates(
        name=name,
        success=share("only_at_l"),
        at_l=share("spike_at_l"),
        of_heard=share("only_at_l", "heard"),
        precision=share("spike_at_l", "spikes"),
        missed_zero=share("missed_zero"),
        missed_nonzero=share("missed_nonzero"),
        early=share("early"),
        late=share("late"),
    )


def without_failed(rows: Iterable[Row]) -> list[Row]:
    """The rows that hold counts."""
    return [row for row in rows if row["status"] != "failed"]


def by_network(rows: Sequence[Row]) -> list[Rates]:
    """The rates of each network up to each horizon, in the base setting.

    If the base was not run, it is the first setting that was. The stage is the last and the
    tolerance the smallest.
    """
    mine = _looked_at(_of_setting(rows, _settings(rows)[0]))
    named = {(row["hidden_layers"], row["network"], row["horizon"]) for row in mine}
    return [
        rates(f"{network}, horizon {horizon}", _where(mine, network=network, horizon=horizon))
        for _, network, horizon in sorted(named)
    ]


def by_factor(rows: Sequence[Row]) -> list[Rates]:
    """The rates of all networks together, for the base setting and for each variation of it.

    A variation differs from the base in one thing, or in several if that is what was run.
    """
    settings = _settings(rows)
    base = _of_setting(rows, settings[0])
    found = [rates(settings[0], _where_usual(base))]
    for stage in _values(base, "stage")[:-1]:
        found.append(rates(f"after {stage} updates", _where_usual(base, stage=stage)))
    for tolerance in _values(base, "tolerance")[1:]:
        name = f"|eps| <= {tolerance:g} counts as 0"
        found.append(rates(name, _where_usual(base, tolerance=tolerance)))
    shortest = [row for row in _looked_at(base) if row["horizon"] == row["hidden_layers"]]
    if shortest:
        found.append(rates("horizon l_max - 1", shortest))
    for horizon in _values(base, "horizon")[:-1]:
        some = _where_usual(base, horizon=horizon)
        if _values(some, "network") == _values(base, "network"):  # else the networks differ, too
            found.append(rates(f"horizon {horizon}", some))
    for layer in _values(base, "layer"):
        found.append(rates(f"layer {layer} alone", _where_usual(base, layer=layer)))
    found += [rates(name, _where_usual(_of_setting(rows, name))) for name in settings[1:]]
    return found


def setting(row: Row) -> str:
    """The name of a row's setting: its differences from the base, or "base" if there are none."""
    return ", ".join(_named(key, row[key]) for key in BASE if row[key] != BASE[key]) or "base"


_COUNTS = ("pairs", "only_at_l", "spike_at_l", "spikes", "missed_zero", "missed_nonzero", "early",
           "late")  # fmt: skip


def _named(key: str, value: Any) -> str:
    return {"gamma": f"gamma {value}", "weights": f"weights {value}"}.get(key, str(value))


def _settings(rows: Sequence[Row]) -> list[str]:
    """The names of the settings: the base first, then by the number of differences and in the order
    of BASE."""

    def place(row: Row) -> tuple[int, list[bool], str]:
        same = [row[key] == BASE[key] for key in BASE]
        return same.count(False), same, setting(row)

    return list(dict.fromkeys(setting(row) for row in sorted(rows, key=place)))


def _of_setting(rows: Iterable[Row], name: str) -> list[Row]:
    return [row for row in rows if setting(row) == name]


def _values(rows: Iterable[Row], column: str) -> list[Any]:
    return sorted({row[column] for row in rows})


def _where(rows: Iterable[Row], **values: Any) -> list[Row]:
    return [row for row in rows if all(row[key] == value for key, value in values.items())]


def _looked_at(rows: Sequence[Row], **values: Any) -> list[Row]:
    """The rows with these values; by default with the last stage and the smallest tolerance."""
    usual = {"stage": _values(rows, "stage")[-1], "tolerance": _values(rows, "tolerance")[0]}
    return _where(rows, **(usual | values))


def _where_usual(rows: Sequence[Row], **values: Any) -> list[Row]:
    """Like `_looked_at`, and by default with the largest horizon."""
    return _looked_at(rows, **({"horizon": _values(rows, "horizon")[-1]} | values))
