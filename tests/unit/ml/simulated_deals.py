"""Simulated deals whose true weights are known."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from ml.card import WEIGHT_PER_POINT, BandSpec, CardSpec, CriterionSpec

VALUES = np.array(["a", "b", "c", "d"])


@dataclass(frozen=True)
class Simulation:
    spec: CardSpec
    X: pd.DataFrame
    y: np.ndarray
    closed_at: pd.DatetimeIndex
    weights: np.ndarray  # criteria x 4 bands, centred per criterion


def simulate(
    deal_count: int, seed: int, *, experts: str = "good", criterion_count: int = 8, signal: float = 1.0
) -> Simulation:
    """Deals of `criterion_count` categories with four values; the planted weights are the same for
    every seed.
    """
    planted = np.random.default_rng(7)
    weights = planted.normal(0, 0.7, (criterion_count, 4))
    weights -= weights.mean(axis=1, keepdims=True)
    noise = planted.normal(0, 1, weights.shape)
    beliefs = {
        "good": 1.3 * weights + 0.25 * noise,
        "poor": 0.5 * weights + 0.5 * noise,
        "none": 0 * weights,
    }[experts]
    generator = np.random.default_rng(seed)
    codes = generator.integers(0, 4, (deal_count, criterion_count))
    total = -1.3 + signal * weights[np.arange(criterion_count), codes].sum(axis=1)
    y = (generator.random(deal_count) < 1 / (1 + np.exp(-total))).astype(int)
    X = pd.DataFrame({f"criterion_{j}": VALUES[codes[:, j]] for j in range(criterion_count)})
    spec = CardSpec(
        tuple(
            CriterionSpec(
                f"criterion_{j}",
                value_type="category",
                bands=tuple(
                    BandSpec(values=(str(value),), points=round(beliefs[j, b] / WEIGHT_PER_POINT))
                    for b, value in enumerate(VALUES)
                ),
            )
            for j in range(criterion_count)
        )
    )
    closed_at = pd.Timestamp("2024-01-01") + pd.to_timedelta(np.arange(deal_count), unit="h")
    return Simulation(spec, X, y, pd.DatetimeIndex(closed_at), weights)
