"""The card on UCI Bank Marketing beside plain logistic regression and naive Bayes, shuffled and in time order.

``uv run python -m tests.trials.bank --data DIR`` with the folder that holds bank-additional-full.csv.gz
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from ml.card import CardSpec, CriterionSpec
from ml.evaluate import figures
from ml.scorecard import fit

FILE = "bank-additional-full.csv.gz"


def read(folder: Path) -> tuple[CardSpec, pd.DataFrame, np.ndarray, pd.DatetimeIndex]:
    """Specification, criteria, outcome and made-up closing times in the order of the file."""
    table = pd.read_csv(folder / FILE, sep=";").drop(columns="duration")  # known only after the call: a leak
    y = (table.pop("y") == "yes").to_numpy().astype(int)
    table["pdays"] = table["pdays"].astype(float).where(table["pdays"] != 999)
    numbers = set(table.select_dtypes("number").columns)
    spec = CardSpec(
        tuple(CriterionSpec(name, value_type="number" if name in numbers else "category") for name in table.columns)
    )
    closed_at = pd.Timestamp("2008-05-01") + pd.to_timedelta(np.arange(len(table)) * 30, unit="min")
    return spec, table, y, pd.DatetimeIndex(closed_at)


@dataclass(frozen=True)
class Result:
    """Figures (see `ml.evaluate.figures`) of each model on the deals that were left out, and the card's pairs."""

    card: dict[str, float | None]
    logistic_regression: dict[str, float | None]
    naive_bayes: dict[str, float | None]
    pairs: tuple[str, ...]


def study(folder: Path, train: np.ndarray, test: np.ndarray, *, seed: int = 1) -> Result:
    """Fit on the rows `train`, judge on the rows `test`."""
    from sklearn.compose import make_column_transformer
    from sklearn.linear_model import LogisticRegression
    from sklearn.naive_bayes import CategoricalNB
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import KBinsDiscretizer, OneHotEncoder, OrdinalEncoder, StandardScaler

    spec, X, y, closed_at = read(folder)
    card = fit(spec, X.iloc[train], y[train], closed_at[train], seed=seed, with_evaluation=False).card
    points = card.total_points(X.iloc[test]).to_numpy()
    own = figures(y[test], card.win_probability(points)[0], points.astype(float))

    filled = X.assign(pdays=X["pdays"].fillna(999))
    names = {kind: [c.name for c in spec.criteria if c.value_type == kind] for kind in ("number", "category")}
    plain = make_pipeline(
        make_column_transformer(
            (OneHotEncoder(handle_unknown="ignore"), names["category"]), (StandardScaler(), names["number"])
        ),
        LogisticRegression(max_iter=2000),
    ).fit(filled.iloc[train], y[train])
    encoder = make_column_transformer(
        (OrdinalEncoder(), names["category"]),
        (KBinsDiscretizer(10, encode="ordinal", quantile_method="averaged_inverted_cdf"), names["number"]),
    ).fit(filled)
    codes = encoder.transform(filled)
    bayes = CategoricalNB(min_categories=codes.max(axis=0).astype(int) + 1).fit(codes[train], y[train])
    return Result(
        own,
        figures(y[test], plain.predict_proba(filled.iloc[test])[:, 1]),
        figures(y[test], bayes.predict_proba(codes[test])[:, 1]),
        tuple(pair.name for pair in card.pairs),
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    folder = parser.parse_args().data
    count = len(read(folder)[2])
    mixed = np.random.default_rng(0).permutation(count)
    older = int(0.8 * count)
    splits = {
        "shuffled, 1,000 -> 20,000": (mixed[:1000], mixed[-20_000:]),
        "shuffled, 16,000 -> rest": (mixed[:16_000], mixed[16_000:]),
        "oldest 80 % -> newest 20 %": (np.arange(older), np.arange(older, count)),
    }
    for name, (train, test) in splits.items():
        result = study(folder, train, test)
        print(f"{name}; pairs: {', '.join(result.pairs) or 'none'}")
        for model in ("card", "logistic_regression", "naive_bayes"):
            its = getattr(result, model)
            print(
                f"  {model:20s}" + ", ".join(f"{key} {its[key]:.4f}" for key in ("auc", "log_loss", "ece")), flush=True
            )


if __name__ == "__main__":
    main()
