"""How often a card's 90 % intervals hold the planted weights, where experts are good, poor, or silent.

uv run python -m tests.trials.coverage --seeds 20
"""

from __future__ import annotations

import argparse

import numpy as np

from ml.scorecard import fit
from tests.unit.ml.simulated_deals import simulate

DEALS = (40, 200, 1000, 5000)


def coverage(deals: int, experts: str, seeds: int) -> tuple[float, float]:
    """Share of the planted weights inside their interval, and the mean half-width in log-odds, over all bands and seeds."""
    inside, widths = [], []
    for seed in range(seeds):
        made = simulate(deals, seed, experts=experts)
        card = fit(made.spec, made.X, made.y, made.closed_at, seed=seed, with_evaluation=False).card
        known = [b for b in card.bands if b.band_type == "values" and b.segment == ""]
        weights = np.array([b.weight for b in known]).reshape(made.weights.shape)
        half = np.array([b.weight_high - b.weight_low for b in known]).reshape(made.weights.shape) / 2
        # Deals do not see the level of a criterion: bands are compared within it.
        apart = weights - weights.mean(axis=1, keepdims=True) - made.weights
        inside.append(np.abs(apart) <= half)
        widths.append(half)
    return float(np.mean(inside)), float(np.mean(widths))


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=20)
    seeds = parser.parse_args().seeds
    print(f"{'experts':8} " + " ".join(f"{n:>14} deals" for n in DEALS))
    for experts in ("good", "poor", "none"):
        cells = [coverage(n, experts, seeds) for n in DEALS]
        print(f"{experts:8} " + " ".join(f"{100 * c:8.1f} % +-{w:.2f}   " for c, w in cells))


if __name__ == "__main__":
    main()
