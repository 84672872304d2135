"""Do segments with few deals gain from rows of their own, or at least lose nothing? And do the intervals hold?

``uv run python -m tests.trials.segments --seeds 50``
"""

from __future__ import annotations

import argparse
import warnings
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from scipy.special import expit

from ml.card import WEIGHT_PER_POINT, BandSpec, Card, CardSpec, CriterionSpec
from ml.evaluate import log_losses
from ml.scorecard import fit

WINS = (0, 2, 5, 10, 20, 40)
"""Won deals, about, of the segments: one segment each."""

VALUES = ("a", "b", "c", "d")
CRITERIA = 8
LEVEL = -1.3


@dataclass(frozen=True)
class World:
    """Planted weights: common (criteria, values), per segment (segments, criteria, values), and the experts' points."""

    common: np.ndarray
    segment: np.ndarray
    levels: np.ndarray
    spec: CardSpec


def world(seed: int, *, spread: float, experts: str = "good") -> World:
    """`spread` = standard deviation of a segment's weight round the common one, in log-odds."""
    generator = np.random.default_rng(seed)

    def centred(sd: float, *shape: int) -> np.ndarray:
        weights = generator.normal(0, sd, shape)
        return np.asarray(weights - weights.mean(axis=-1, keepdims=True))

    common = centred(0.6, CRITERIA, len(VALUES))
    segment = common + centred(spread, len(WINS), CRITERIA, len(VALUES))
    levels = generator.normal(0, 0.3, len(WINS))
    belief = {
        "good": 1.2 * common + centred(0.25, *common.shape),
        "poor": centred(0.5, *common.shape),
        "none": 0 * common,
    }
    points = np.round(belief[experts] / WEIGHT_PER_POINT).astype(int)
    criteria = [
        CriterionSpec(
            f"c{number}",
            value_type="category",
            bands=tuple(BandSpec(values=(v,), points=int(points[number, k])) for k, v in enumerate(VALUES)),
        )
        for number in range(CRITERIA)
    ]
    names = [f"region {wins}" for wins in WINS]
    by = CriterionSpec("region", value_type="category", bands=tuple(BandSpec(values=(name,)) for name in names))
    return World(common, segment, levels, CardSpec((by, *criteria), segment_by="region", max_pairs=0))


def deals_of(world: World, counts: np.ndarray, seed: int) -> tuple[pd.DataFrame, np.ndarray, pd.DatetimeIndex]:
    """Deals of every segment in mixed order."""
    generator = np.random.default_rng(seed)
    segment = generator.permutation(np.repeat(np.arange(len(counts)), counts))
    codes = generator.integers(0, len(VALUES), (len(segment), CRITERIA))
    weights = world.segment[segment[:, None], np.arange(CRITERIA)[None, :], codes]
    y = (generator.random(len(segment)) < expit(LEVEL + world.levels[segment] + weights.sum(axis=1))).astype(int)
    X = pd.DataFrame({f"c{k}": np.array(VALUES, dtype=object)[codes[:, k]] for k in range(CRITERIA)})
    X.insert(0, "region", np.array([f"region {wins}" for wins in WINS], dtype=object)[segment])
    closed_at = pd.DatetimeIndex(pd.Timestamp("2024-01-01") + pd.to_timedelta(np.arange(len(segment)), unit="h"))
    return X, y, closed_at


@dataclass(frozen=True)
class Result:
    """Log loss per segment on later deals, shape (segments,); coverage of 90 % intervals, shape (segments + 1,)."""

    experts: np.ndarray
    pooled: np.ndarray
    segments: np.ndarray
    coverage: np.ndarray


def study(seed: int, *, spread: float, experts: str = "good", later_each: int = 1_500) -> Result:
    """One world: the experts' card, the pooled card, the card with segments, on later deals of every segment."""
    planted = world(seed, spread=spread, experts=experts)
    counts = np.array([round(wins / 0.27) for wins in WINS])
    X, y, closed_at = deals_of(planted, counts, 1000 + seed)
    later, won, _ = deals_of(planted, np.full(len(WINS), later_each), 2000 + seed)
    place = later["region"].map({f"region {wins}": k for k, wins in enumerate(WINS)}).to_numpy()

    def losses(card: Card) -> np.ndarray:
        each = log_losses(won, card.win_probability(card.total_points(later))[0])
        return np.bincount(place, weights=each) / np.bincount(place)

    def made(spec: CardSpec, rows: slice) -> Card:
        return fit(spec, X[rows], y[rows], closed_at[rows], seed=seed, with_evaluation=False).card

    card = made(planted.spec, slice(None))
    pooled = made(replace(planted.spec, segment_by=None), slice(None))
    alone = made(replace(planted.spec, segment_by=None, expected_win_rate=0.27), slice(0, 0))
    return Result(losses(alone), losses(pooled), losses(card), coverage(card, planted))


def coverage(card: Card, planted: World) -> np.ndarray:
    """Share of planted weights inside the 90 % intervals: per segment (NaN where it has no rows), then common ones."""
    result = []
    for name, weights in [*zip((f"region {w}" for w in WINS), planted.segment, strict=True), ("", planted.common)]:
        rows = card.rows(name)
        if not rows:
            result.append(np.nan)
            continue
        inside = []
        for number in range(CRITERIA):
            bands = rows[f"c{number}"][: len(VALUES)]
            found = np.array([b.weight for b in bands])
            # Deals cannot see the level of a criterion; intervals are of a band against the others.
            shift = found.mean() - weights[number].mean()
            low, high = np.array([b.weight_low for b in bands]), np.array([b.weight_high for b in bands])
            inside.append((low - shift <= weights[number]) & (weights[number] <= high - shift))
        result.append(float(np.mean(inside)))
    return np.array(result)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=50)
    asked = parser.parse_args()
    for experts in ("good", "poor"):
        for spread in (0.0, 0.2, 0.5):
            results = [study(seed, spread=spread, experts=experts) for seed in range(asked.seeds)]
            print(f"{experts} experts, segments differ by {spread:g}: log loss on later deals, {asked.seeds} seeds")
            for name in ("experts", "pooled", "segments"):
                each = np.mean([getattr(r, name) for r in results], axis=0)
                print(f"  {name:9s}", " ".join(f"{v:.4f}" for v in each), f" mean {each.mean():.4f}")
            gain = np.array([(r.pooled - r.segments).mean() for r in results])
            print(f"  segments against pooled: {gain.mean():+.5f} +- {1.645 * gain.std() / np.sqrt(len(gain)):.5f}")
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", RuntimeWarning)  # a segment without deals has no rows
                cover = np.nanmean([r.coverage for r in results], axis=0)
            print("  coverage ", " ".join(f"{v:.1%}" for v in cover), flush=True)


if __name__ == "__main__":
    main()
