"""From no deals to thousands: the experts alone, the data alone and the card, judged on the same later deals.

``uv run python -m tests.trials.cold_to_warm --seeds 12``
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from scipy.special import expit

from ml.card import WEIGHT_PER_POINT, BandSpec, CardSpec, CriterionSpec
from ml.evaluate import log_losses
from ml.scorecard import fit

DEAL_COUNTS = (0, 5, 20, 40, 200, 5_000)
VALUES = np.array(["a", "b", "c", "d"], dtype=object)
CRITERIA = 12
LEVEL = -1.3


@dataclass(frozen=True)
class Result:
    """Log loss on later deals. The experts alone are told the true level, the card and the data alone are not."""

    experts: float
    data: float
    card: float
    truth: float


def _world(experts: str) -> tuple[np.ndarray, CardSpec]:
    planted = np.random.default_rng(7)
    weights = planted.normal(0, 0.6, (CRITERIA, len(VALUES)))
    weights -= weights.mean(axis=1, keepdims=True)
    noise = planted.normal(0, 1, weights.shape)
    belief = {
        "good": 1.2 * weights + 0.25 * noise,
        "poor": 0.5 * weights + 0.5 * noise,
        "noise": 0.7 * noise,
    }[experts]
    criteria = tuple(
        CriterionSpec(
            f"c{j}",
            value_type="category",
            bands=tuple(
                BandSpec(values=(str(value),), points=round(float(belief[j, k]) / WEIGHT_PER_POINT))
                for k, value in enumerate(VALUES)
            ),
        )
        for j in range(CRITERIA)
    )
    return weights, CardSpec(criteria)


def _deals(weights: np.ndarray, deal_count: int, seed: int) -> tuple[pd.DataFrame, np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    codes = generator.integers(0, len(VALUES), (deal_count, CRITERIA))
    line = LEVEL + weights[np.arange(CRITERIA), codes].sum(axis=1)
    y = (generator.random(deal_count) < expit(line)).astype(int)
    return pd.DataFrame({f"c{j}": VALUES[codes[:, j]] for j in range(CRITERIA)}), y, codes


def study(deal_count: int, seed: int, *, experts: str = "good", later_count: int = 20_000) -> Result:
    """One draw of closed deals."""
    weights, spec = _world(experts)
    X, y, _ = _deals(weights, deal_count, seed)
    later, won, codes = _deals(weights, later_count, 100_000)
    closed_at = pd.DatetimeIndex(pd.Timestamp("2024-01-01") + pd.to_timedelta(np.arange(deal_count), unit="h"))
    unbelieved = replace(
        spec,
        criteria=tuple(replace(c, bands=tuple(replace(b, points=0) for b in c.bands or ())) for c in spec.criteria),
    )
    points = np.array([[b.points for b in c.bands or ()] for c in spec.criteria])

    def loss(p: np.ndarray) -> float:
        return float(log_losses(won, p).mean())

    def fitted(asked: CardSpec) -> float:
        card = fit(asked, X, y, closed_at, seed=seed, with_evaluation=False).card
        return loss(card.win_probability(card.total_points(later))[0])

    believed = points[np.arange(CRITERIA), codes].sum(axis=1) * WEIGHT_PER_POINT
    true = weights[np.arange(CRITERIA), codes].sum(axis=1)
    return Result(loss(expit(LEVEL + believed)), fitted(unbelieved), fitted(spec), loss(expit(LEVEL + true)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=12)
    asked = parser.parse_args()
    print("experts, deals | experts alone, data alone, card | truth")
    for experts in ("good", "poor", "noise"):
        for deal_count in DEAL_COUNTS:
            results = [study(deal_count, seed, experts=experts) for seed in range(asked.seeds)]
            mean = np.mean([[r.experts, r.data, r.card, r.truth] for r in results], axis=0)
            print(
                f"{experts} {deal_count:5,} | " + ", ".join(f"{v:.4f}" for v in mean[:3]) + f" | {mean[3]:.4f}",
                flush=True,
            )


if __name__ == "__main__":
    main()
