"""The experiment on the report page: how far each rule is from BP, and what an update costs."""

from collections.abc import Sequence

from cluster.report.page.parts import Ask, DataTable, Paragraph, Section, Shown
from jobs.any_network.shown.views import THEIR_RATIOS, method_name
from pcworker.row import Row


def network_sections(ask: Ask) -> Sequence[Section]:
    """The sections with all rules of all networks, over seeds."""
    distances = ask("""
        SELECT * FROM (
          SELECT network, family, rule, levelled, t, t_d, gamma, sigma, schedule, arithmetic,
                 levels, identities, count(*) AS seeds,
                 count_if(status = 'nonfinite') AS nonfinite, bool_and(exact) AS exact,
                 avg(weight_l2_to_bp) AS l2, stddev_samp(weight_l2_to_bp) AS l2_sd,
                 max(weight_maxabs_to_bp) AS largest,
                 avg(test_error) AS test_error, avg(bp_test_error) AS bp_test_error
          FROM networks
          WHERE status <> 'failed'
          GROUP BY ALL
        )
        ORDER BY levels, network, rule <> 'BP', l2, rule, schedule, t, gamma, sigma, levelled
    """)
    costs = ask("""
        SELECT * FROM (
          SELECT network, rule, levelled, t, t_d, gamma, sigma, schedule, arithmetic,
                 count(*) AS seeds, median(ms_per_update_median) AS ms,
                 median(ratio_to_bp_median) AS ratio, min(ratio_to_bp_p10) AS low,
                 max(ratio_to_bp_p90) AS high, median(peak_memory_bytes) / 1048576 AS peak_mib
          FROM networks
          WHERE status <> 'failed'
          GROUP BY ALL
        )
        ORDER BY network, rule <> 'BP', ratio, rule, schedule, t, gamma, sigma, levelled
    """)
    return [
        Section(
            "Divergence from backpropagation",
            [
                Paragraph(
                    "The L2 norm of the difference between all final weights and BP's, which has "
                    "learnt the same minibatches beside them. Z-IL is exact on a graph that "
                    "identity vertices have levelled, with sigma = 0 and gamma = 1."
                ),
                DataTable(
                    "Cells",
                    distances,
                    (
                        Shown("network", "network"),
                        Shown("family", "family"),
                        Shown("levels", "levels"),
                        Shown("identity vertices", "identities"),
                        Shown("rule", method_name),
                        Shown("seeds", "seeds"),
                        Shown("not finite", "nonfinite"),
                        Shown("weights are BP's", "exact"),
                        Shown("L2 from BP: mean", "l2"),
                        Shown("sd", "l2_sd"),
                        Shown("largest", "largest"),
                        Shown("test error", "test_error"),
                        Shown("BP's", "bp_test_error"),
                    ),
                ),
            ],
        ),
        Section(
            "What a weight update costs",
            [
                Paragraph(
                    "Medians over turns, and over seeds. A ratio is to BP's time in the same turn. "
                    "The ratios of Salvatori et al. (2022) are second-hand, of their networks and "
                    "machine."
                ),
                DataTable(
                    "Times and memory",
                    costs,
                    (
                        Shown("network", "network"),
                        Shown("rule", method_name),
                        Shown("ms", "ms"),
                        Shown("time / BP's", "ratio"),
                        Shown("p10", "low"),
                        Shown("p90", "high"),
                        Shown("theirs, Z-IL", _theirs, "{:.3f}".format),
                        Shown("peak MiB", "peak_mib", "{:,.1f}".format),
                    ),
                ),
            ],
        ),
    ]


def _theirs(row: Row) -> float | None:
    plain = row["rule"] == "Z-IL" and row["schedule"] == "layerwise"
    usual = row["levelled"] and not row["sigma"] and row["gamma"] == 1
    return THEIR_RATIOS.get(row["network"]) if plain and usual else None
