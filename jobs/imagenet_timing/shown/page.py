"""The timing runs on the report page: Table 4 beside the paper's numbers."""

from collections.abc import Callable, Sequence
from typing import Any

from cluster.report.page.parts import Ask, DataTable, Paragraph, Section, Shown
from jobs.imagenet_timing.shown.report import ms, ratio
from jobs.imagenet_timing.shown.views import Paper, method, paper
from pcworker.row import Row


def timing_sections(ask: Ask) -> Sequence[Section]:
    """The section with all rules of all runs."""
    answer = ask("""
        SELECT network, layers, batch_size, device_kind, rule, t, schedule, execution, seed,
               ms_per_update_median, ms_per_update_p10, ms_per_update_p90,
               ratio_to_bp_median, ratio_to_bp_p10, ratio_to_bp_p90,
               peak_memory_bytes / 1048576 AS peak_mib, exact, weight_l2_to_bp,
               status, device, hostname, sweep, trial_id
        FROM timings
        WHERE status <> 'failed'
        ORDER BY device_kind, layers, network, sweep, seed, rule <> 'BP', ms_per_update_median,
                 trial_id
    """)
    columns = (
        Shown("network", "network"),
        Shown("device", "device_kind"),
        Shown("rule", method),
        Shown("ms", "ms_per_update_median", ms),
        Shown("ms: p10", "ms_per_update_p10", ms),
        Shown("ms: p90", "ms_per_update_p90", ms),
        Shown("paper: ms", _of_paper(lambda told: told.ms), "{:.1f}".format),
        Shown("time / BP's", "ratio_to_bp_median", ratio),
        Shown("ratio: p10", "ratio_to_bp_p10", ratio),
        Shown("ratio: p90", "ratio_to_bp_p90", ratio),
        Shown("paper: time / BP's", _of_paper(lambda told: told.ratio), ratio),
        Shown("peak MiB", "peak_mib", "{:,.1f}".format),
        Shown("weights are BP's", "exact"),
        Shown("seed", "seed"),
    )
    text = (
        "The time of a weight update: the median over turns, and the 10th and the 90th percentile. "
        "Each rule takes turns with BP, and its time is divided by BP's in the same turn. The "
        "paper states neither the network, nor the batch size, nor the machine, so its "
        "milliseconds show the order of size only. Its ratios can be compared."
    )
    listing = DataTable("Table 4: milliseconds per weight update", answer, columns)
    return [Section("Table 4: what a weight update costs", [Paragraph(text), listing])]


def _of_paper(number: Callable[[Paper], float]) -> Callable[[Row], Any]:
    """A function that finds a number of the paper for a row; None if the paper has none."""

    def found(row: Row) -> float | None:
        told = paper(row)
        return None if told is None else number(told)

    return found
