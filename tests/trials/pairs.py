"""Do pair criteria close the gap to gradient boosting where a pair was planted, and stay away where none was?

``uv run python -m tests.trials.pairs --seeds 20``
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from ml.card import CardSpec, CriterionSpec
from ml.evaluate import log_losses
from ml.scorecard import fit


@dataclass(frozen=True)
class Deals:
    X: pd.DataFrame
    y: np.ndarray
    closed_at: pd.DatetimeIndex
    chance: np.ndarray


INDUSTRIES = ("software", "retail", "public", "health")


def simulate(deal_count: int, seed: int, *, planted: float = 1.0) -> Deals:
    """Deals of two numbers, two categories and four criteria of noise; `planted` = strength of one pair.

    The pair: large companies win in software and lose in retail, small ones the other way round; its main effects
    are nothing but what the single criteria add.
    """
    generator = np.random.default_rng(seed)
    employees = np.exp(generator.normal(4.5, 1.4, deal_count)).round() + 1
    industry = generator.choice(INDUSTRIES, deal_count)
    visits = generator.poisson(3.0, deal_count).astype(float)
    region = generator.choice(["north", "south", "west"], deal_count)
    noise = {f"noise_{k}": generator.normal(0, 1, deal_count) for k in range(4)}
    large = (employees > 90) - 0.5
    side = np.select([industry == "software", industry == "retail"], [1.0, -1.0], 0.0)
    line = -1.2 + 0.15 * (visits - 3) + np.where(region == "north", 0.4, 0.0) + 0.3 * np.where(large > 0, 1, 0)
    line = line + planted * 2.0 * large * side
    chance = 1 / (1 + np.exp(-line))
    y = (generator.random(deal_count) < chance).astype(int)
    X = pd.DataFrame({"employees": employees, "industry": industry, "visits": visits, "region": region, **noise})
    closed_at = pd.DatetimeIndex(pd.Timestamp("2024-01-01") + pd.to_timedelta(np.arange(deal_count), unit="min"))
    return Deals(X, y, closed_at, chance)


def spec_of(X: pd.DataFrame, **options: object) -> CardSpec:
    """All columns as criteria, bands found from the deals."""
    numbers = set(X.select_dtypes("number").columns)
    criteria = tuple(CriterionSpec(name, value_type="number" if name in numbers else "category") for name in X.columns)
    return CardSpec(criteria, **options)  # type: ignore[arg-type]


@dataclass(frozen=True)
class Result:
    """Log loss on later deals, and the pairs that were kept. `closed` = share of the gap to boosting that they close."""

    main: float
    with_pairs: float
    boosting: float
    truth: float
    pairs: tuple[str, ...]

    @property
    def closed(self) -> float:
        return (self.main - self.with_pairs) / (self.main - self.boosting)


def study(deal_count: int, seed: int, *, planted: float = 1.0, later_count: int = 20_000) -> Result:
    """Fit without and with pairs, and gradient boosting, on the same deals; judge on others."""
    from sklearn.ensemble import HistGradientBoostingClassifier

    deals, later = simulate(deal_count, seed, planted=planted), simulate(later_count, 10_000 + seed, planted=planted)

    def loss(p: np.ndarray) -> float:
        return float(log_losses(later.y, p).mean())

    spec = spec_of(deals.X)
    found = []
    for asked in (replace(spec, max_pairs=0), spec):
        card = fit(asked, deals.X, deals.y, deals.closed_at, seed=seed, with_evaluation=False).card
        found.append((loss(card.win_probability(card.total_points(later.X))[0]), card))
    columns = [pd.Categorical(deals.X[c], categories=sorted(deals.X[c].unique())) for c in ("industry", "region")]

    def matrix(X: pd.DataFrame) -> np.ndarray:
        coded = X.copy()
        for name, known in zip(("industry", "region"), columns, strict=True):
            coded[name] = pd.Categorical(X[name], categories=known.categories).codes
        return coded.to_numpy(float)

    boosting = HistGradientBoostingClassifier(
        max_iter=300,
        learning_rate=0.06,
        max_leaf_nodes=15,
        early_stopping=deal_count >= 1000,
        categorical_features=[1, 3],
        random_state=seed,
    ).fit(matrix(deals.X), deals.y)
    ceiling = loss(boosting.predict_proba(matrix(later.X))[:, 1])
    names = tuple(pair.name for pair in found[1][1].pairs)
    return Result(found[0][0], found[1][0], ceiling, loss(later.chance), names)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--deals", type=int, nargs="*", default=[2_000, 6_000, 20_000])
    asked = parser.parse_args()
    for planted in (1.0, 0.0):
        for deal_count in asked.deals:
            results = [study(deal_count, seed, planted=planted) for seed in range(asked.seeds)]
            figures = np.mean([[r.main, r.with_pairs, r.boosting, r.truth] for r in results], axis=0)
            kept = [r.pairs for r in results]
            line = (
                f"planted {planted:g}, {deal_count:6,} deals: log loss main {figures[0]:.4f}, pairs {figures[1]:.4f}, "
            )
            line += f"boosting {figures[2]:.4f}, truth {figures[3]:.4f}; "
            if planted:
                line += f"gap closed {(figures[0] - figures[1]) / (figures[0] - figures[2]):.0%}; "
            right = sum("employees & industry" in names for names in kept)
            wrong = sum(name != "employees & industry" for names in kept for name in names)
            print(f"{line}right pair in {right} of {len(kept)} fits, {wrong} other pairs", flush=True)


if __name__ == "__main__":
    main()
