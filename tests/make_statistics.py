"""What scipy says, recorded for test_statistics.py: tests/fixtures/scipy_statistics.json.

    python tests/make_statistics.py        (needs scipy)
"""

import json
import platform
from pathlib import Path

import numpy as np
import scipy
from scipy import stats

SAMPLES = [[0.1, 0.7, -0.3, 1.2, 0.4, 0.9], [1.0, 0.0, 0.0, -1.0, 1.0, 1.0, 0.0, 1.0, 0.0, 1.0],
           [12.5, -3.25, 8.0, 0.0, 41.0, 7.75, -12.0, 3.5, 19.0, 2.25, -0.5, 6.0]]
PS = [[0.01, 0.04, 0.03, 0.5], [0.2], [0.001, 0.001, 0.9, 0.03, 0.03, 0.049, 1.0]]


def record() -> dict:
    quantiles = [[p, df, stats.t.ppf(p, df)] for p in (0.0005, 0.1, 0.5, 0.9, 0.975, 0.9995)
                 for df in (1, 1.3, 2, 4.7, 5, 19, 47, 999.5)]
    samples = []
    for values in SAMPLES:
        found = stats.ttest_1samp(values, 0)
        low, high = found.confidence_interval(0.9)
        flips = stats.permutation_test((values,), np.mean, permutation_type="samples",
                                       n_resamples=np.inf)
        samples.append({"values": values, "low_90": low, "high_90": high, "p": flips.pvalue})
    return {"scipy": scipy.__version__, "numpy": np.__version__,
            "python": platform.python_version(), "t_quantile": quantiles, "samples": samples,
            "benjamini_hochberg": [[ps, list(stats.false_discovery_control(ps))] for ps in PS]}


if __name__ == "__main__":
    path = Path(__file__).parent / "fixtures/scipy_statistics.json"
    path.write_text(json.dumps(record(), indent=1) + "\n", encoding="utf-8")
