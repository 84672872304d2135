"""A card that went through MLflow's registry is the same card."""

import numpy as np
import pandas as pd
import pytest

from ml.card import BandSpec, CardSpec, CriterionSpec
from ml.scorecard import fit_card
from ml.tracking import load_card, log_card, set_alias, tracking_uri


@pytest.fixture(scope="module")
def card_and_deals():
    generator = np.random.default_rng(0)
    X = pd.DataFrame(
        {
            "employees": np.where(generator.random(200) < 0.1, np.nan, generator.integers(1, 500, 200)),
            "industry": generator.choice(["it", "media"], 200),
        }
    )
    y = (generator.random(200) < 0.2 + 0.4 * (X["industry"] == "it")).astype(int)
    spec = CardSpec(
        (
            CriterionSpec("employees"),
            CriterionSpec("industry", value_type="category", bands=(BandSpec(values=("it",), points=10),)),
        )
    )
    return fit_card(spec, X, y, pd.date_range("2024-01-01", periods=200), seed=1), X


def test_log_card__leaves_no_trace_in_the_process(card_and_deals, tmp_path):
    """Another store used before must not be the registry of whoever comes next."""
    import mlflow

    card, _ = card_and_deals
    before = (mlflow.get_tracking_uri(), mlflow.get_registry_uri())
    log_card(card, tracking_dir=tmp_path / "other")
    assert (mlflow.get_tracking_uri(), mlflow.get_registry_uri()) == before
    mlflow.set_tracking_uri(tracking_uri(tmp_path))
    try:
        assert mlflow.get_registry_uri() == tracking_uri(tmp_path)
    finally:
        mlflow.set_tracking_uri(before[0])


def test_log_card__registers_versions_that_load_back_and_predict_the_same(card_and_deals, tmp_path):
    import mlflow

    card, X = card_and_deals
    before = mlflow.get_tracking_uri()
    run_id, version = log_card(card, tracking_dir=tmp_path, params={"seed": 1}, tags={"reason": "test"})
    _, second = log_card(card, tracking_dir=tmp_path)
    assert (version, second) == (1, 2)
    assert mlflow.get_tracking_uri() == before
    assert load_card(1, tracking_dir=tmp_path) == card

    set_alias(1, "champion", tracking_dir=tmp_path)
    set_alias(2, "challenger", tracking_dir=tmp_path)
    assert load_card("challenger", tracking_dir=tmp_path) == card
    with pytest.raises(ValueError, match="alias must be champion or challenger, got 'best'"):
        set_alias(1, "best", tracking_dir=tmp_path)

    client = mlflow.MlflowClient(tracking_uri(tmp_path))
    run = client.get_run(run_id)
    assert run.data.params["deal_count"] == "200"
    assert run.data.metrics["card.auc"] == pytest.approx(card.evaluation["card"]["auc"])
    assert card.verdict[0] in run.data.tags["mlflow.note.content"]
    assert str(client.get_model_version_by_alias("account-scorecard", "champion").version) == "1"

    mlflow.set_tracking_uri(tracking_uri(tmp_path))
    try:
        model = mlflow.pyfunc.load_model("models:/account-scorecard@champion")
        predicted = model.predict(X)
    finally:
        mlflow.set_tracking_uri(before)
    np.testing.assert_array_equal(predicted["total_points"], card.total_points(X))
    np.testing.assert_array_equal(predicted["win_probability"], card.win_probability(card.total_points(X))[0])
