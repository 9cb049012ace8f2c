"""Table 2 of the paper on the report page: the properties of the rules, and what shows each."""

from cluster.report.page.parts import Ask, DataTable, Paragraph, Section, Shown
from pcworker.equations.rules import BP, FA_Z_IL, IL, Z_IL
from pcworker.row import Row

YES, NO = "yes", "no"
PAPER_PROPERTIES = {
    BP.name: (YES, NO, NO, NO),
    IL.name: (NO, YES, YES, NO),
    Z_IL.name: (YES, YES, YES, NO),
    FA_Z_IL.name: ("yes, empirically", YES, YES, YES),
}
"""What Table 2 says of each rule: equivalence to BP, local plasticity, partial autonomy and full
autonomy."""
_SHOWN_BY = (
    "- Equivalence to BP is measured in this sweep: the column beside it counts the cells with "
    "gamma = 1 and sigma = 0 in which every final weight of every seed is BP's, bit for bit. "
    "tests/pcworker/test_exactly_backprop.py compares Z-IL with torch.autograd, and "
    "tests/pcworker/test_rules.py compares Fa-Z-IL.\n"
    "- Local plasticity: a weight moves by the product of the error after it and the activity "
    "before it (Eq. 9). tests/pcworker/test_against_numpy.py computes every rule from such "
    "products alone, and the kernels must agree with it.\n"
    "- Partial autonomy: all neurons move by the same equation (Eq. 7) at every inference step. "
    "tests/pcworker/test_by_the_page.py computes the rules so, one step after the other.\n"
    "- Full autonomy: phi decides for each neuron when its weights move, and nobody tells it the "
    "step. tests/pcworker/test_rules.py shows where this is backpropagation (sigmoid) and where it "
    "is not (relu). The experiment detection_rate measures how often phi finds t = l (Table 3)."
)


def properties_section(ask: Ask) -> Section:
    """The table and what shows each of its columns."""
    answer = ask(f"""
        SELECT rule, count(*) AS cells, count(*) FILTER (exact) AS exact_cells,
               max(weight_divergence_l2_max) AS largest_l2
        FROM (SELECT DISTINCT ON (trial_ids[1], rule) * FROM divergence WHERE n_seeds > 0)
        WHERE coalesce(gamma, 1) = 1 AND coalesce(sigma, 0) = 0
        GROUP BY rule ORDER BY list_position({list(PAPER_PROPERTIES)}, rule)
    """)
    columns = (
        Shown("rule", "rule"),
        Shown("equivalent to BP, says the paper", lambda row: _said(row, 0)),
        Shown("cells here", "cells"),
        Shown("of them exactly BP", "exact_cells"),
        Shown("largest distance of a seed's weights (L2)", "largest_l2"),
        Shown("local plasticity", lambda row: _said(row, 1)),
        Shown("partial autonomy", lambda row: _said(row, 2)),
        Shown("full autonomy", lambda row: _said(row, 3)),
    )
    listing = DataTable("Rules with gamma = 1 and sigma = 0", answer, columns)
    return Section("Table 2: properties of the rules", [listing, Paragraph(_SHOWN_BY)])


def _said(row: Row, place: int) -> str:
    return PAPER_PROPERTIES[row["rule"]][place]
