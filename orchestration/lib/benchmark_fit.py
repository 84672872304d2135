"""What a fit costs beside bare scikit-learn on the same indicator matrix, each in a process of its own.

Belongs here: simulated deals, the measured processes, their ratio. Does not: refreshes (`orchestration.lib.benchmark`),
how the figures look (`orchestration.cli.benchmark`).

Bare scikit-learn is one `LogisticRegression` (L-BFGS, its defaults but for 1,000 rounds) on the sparse indicators of the
bands that our fit has found, loaded from a file: no banding, no beliefs, no intervals, no points out of fold.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from orchestration.lib.errors import UserError

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

MODES = ("fit", "fit_with_evaluation", "scikit_learn")

MIN_DEALS = 500


@dataclass(frozen=True)
class FitCost:
    """One process. `work_seconds` leaves out its start, its imports and the making or reading of its input."""

    mode: str
    wall_seconds: float
    work_seconds: float
    cpu_seconds: float
    peak_mib: float
    log_loss: float


@dataclass(frozen=True)
class FitReport:
    """Costs of all modes on the same deals."""

    deals: int
    criteria: int
    bands: int
    costs: tuple[FitCost, ...]
    load_average: float

    def ratio(self, mode: str, figure: str) -> float:
        """A figure of one of our modes, in multiples of bare scikit-learn's."""
        by_mode = {cost.mode: cost for cost in self.costs}
        return float(getattr(by_mode[mode], figure) / getattr(by_mode["scikit_learn"], figure))


def simulated_deals(deals: int, criteria: int, seed: int) -> tuple[pd.DataFrame, np.ndarray, pd.DatetimeIndex]:
    """Three numbers to each category, a tenth of the values missing, one in four deals won, all criteria weak."""
    import numpy as np
    import pandas as pd

    generator = np.random.default_rng(seed)
    line = np.full(deals, -1.2)
    columns: dict[str, object] = {}
    for number in range(criteria):
        value = generator.normal(0, 1, deals).astype(np.float32)
        line += generator.normal(0, 0.15) * value
        missing = generator.random(deals, dtype=np.float32) < 0.1
        if number % 4 == 3:
            codes = np.clip(np.floor(value * 2 + 4), 0, 8).astype(np.int8)
            codes[missing] = -1
            names = pd.Index([f"value {k}" for k in range(9)])
            columns[f"category_{number}"] = pd.Categorical.from_codes(codes, names)
        else:
            columns[f"number_{number}"] = np.where(missing, np.float32(np.nan), np.round(np.exp(value) * 100))
    y = (generator.random(deals) < 1 / (1 + np.exp(-line))).astype(np.int8)
    closed_at = pd.DatetimeIndex(pd.Timestamp("2020-01-01") + pd.to_timedelta(np.arange(deals), unit="s"))
    return pd.DataFrame(columns), y, closed_at


def run_fit_benchmark(deals: int, criteria: int, *, seed: int, progress: Callable[[str], None]) -> FitReport:
    """Measure all modes one after the other.

    Raises
    ------
    UserError
        A process failed, for example for want of memory.
    """
    load = os.getloadavg()[0]
    costs = []
    bands = 0
    with tempfile.TemporaryDirectory(prefix="benchmark-fit-") as folder:
        for mode in MODES:
            progress(f"{mode.replace('_', ' ')}: {deals:,} deals x {criteria} criteria")
            result = Path(folder) / f"{mode}.json"
            command = [sys.executable, "-m", __name__, mode, str(deals), str(criteria), str(seed), folder]
            started = time.perf_counter()
            finished = subprocess.run(command, capture_output=True, text=True, check=False)
            wall = time.perf_counter() - started
            if finished.returncode != 0 or not result.exists():
                raise UserError(f"benchmark: {mode} ended with {finished.returncode}: {finished.stderr[-800:]}")
            figures = json.loads(result.read_text())
            bands = figures.pop("bands")
            costs.append(FitCost(mode=mode, wall_seconds=wall, **figures))
    return FitReport(deals, criteria, bands, tuple(costs), load)


def _measured(mode: str, deals: int, criteria: int, seed: int, folder: Path) -> dict[str, float]:
    """The work of one process. The first mode leaves the indicators behind for the last."""
    import numpy as np
    from scipy import sparse

    matrix = folder / "indicators.npz"
    if mode == "scikit_learn":
        from sklearn.linear_model import LogisticRegression

        X, y = sparse.load_npz(matrix), np.load(folder / "outcomes.npy")
        started = time.perf_counter()
        model = LogisticRegression(max_iter=1000).fit(X, y)
        seconds = time.perf_counter() - started
        p = model.predict_proba(X)[:, 1]
        bands = X.shape[1]
    else:
        from ml.card import CardSpec, CriterionSpec
        from ml.scorecard import fit

        table, y, closed_at = simulated_deals(deals, criteria, seed)
        spec = CardSpec(
            tuple(
                CriterionSpec(name, value_type="category" if name.startswith("category") else "number")
                for name in table.columns
            )
        )
        started = time.perf_counter()
        fitted = fit(spec, table, y, closed_at, seed=seed, with_evaluation=mode == "fit_with_evaluation")
        seconds = time.perf_counter() - started
        bands = len(fitted.card.bands)
        if mode == "fit":
            peak = _peak_mib()
            p = fitted.card.win_probability(fitted.card.total_points(table))[0]
            _write_indicators(fitted.band_numbers.to_numpy(), y, folder)
            return _figures(y, p, seconds, peak, bands)
        p = fitted.card.win_probability(fitted.card.total_points(table))[0]
    return _figures(y, p, seconds, _peak_mib(), bands)


def _figures(y: np.ndarray, p: np.ndarray, seconds: float, peak: float, bands: int) -> dict[str, float]:
    import numpy as np

    return {
        "work_seconds": seconds,
        "cpu_seconds": time.process_time(),
        "peak_mib": peak,
        "log_loss": float(-np.mean(np.where(y == 1, np.log(p), np.log1p(-p)))),
        "bands": bands,
    }


def _peak_mib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def _write_indicators(numbers: np.ndarray, y: np.ndarray, folder: Path) -> None:
    import numpy as np
    from scipy import sparse

    offsets = np.concatenate([[0], np.cumsum(numbers.max(axis=0))])
    columns = (numbers - 1 + offsets[:-1]).astype(np.int32).ravel()
    starts = np.arange(len(numbers) + 1, dtype=np.int64) * numbers.shape[1]
    shape = (len(numbers), int(offsets[-1]))
    indicators = sparse.csr_array((np.ones(len(columns)), columns, starts.astype(np.int32)), shape=shape)
    sparse.save_npz(folder / "indicators.npz", indicators, compressed=False)
    np.save(folder / "outcomes.npy", y)


def write_fit_report(report: FitReport, path: Path) -> None:
    """All figures as JSON."""
    path.write_text(json.dumps(asdict(report), indent=2) + "\n")


if __name__ == "__main__":
    mode, deals, criteria, seed, folder = sys.argv[1:]
    figures = _measured(mode, int(deals), int(criteria), int(seed), Path(folder))
    (Path(folder) / f"{mode}.json").write_text(json.dumps(figures))
