"""The public table `divergence`, a row for every declared cell.

Column names and meanings are a contract with users' queries. A missing value is null.
"""

import pyarrow as pa

from pcworker.store.tables import CONFIGURATION

DIVERGENCE = pa.schema(
    [
        ("panel", pa.string()),
        *CONFIGURATION,
        ("trial_ids", pa.list_(pa.string())),
        ("n_seeds", pa.int32()),
        ("n_nonfinite", pa.int32()),
        *(
            (f"{measure}_{statistic}", pa.float64())
            for measure in ("test_error_divergence", "weight_divergence_l2")
            for statistic in ("mean", "sd", "min", "max")
        ),
        ("weight_divergence_l1_mean", pa.float64()),
        ("weight_divergence_maxabs_max", pa.float64()),
        ("exact", pa.bool_()),
    ]
)
