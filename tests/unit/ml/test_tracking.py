"""A card that went through MLflow's registry is the same card."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from ml.card import BandSpec, CardSpec, CriterionSpec
from ml.scorecard import fit_card
from ml.tracking import figures_of, load_card, log_card, set_alias, tracking_uri


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
    page = "<p>Wähler</p>".encode()
    run_id, version = log_card(
        card,
        tracking_dir=tmp_path,
        params={"seed": 1},
        tags={"reason": "test"},
        artifacts={"model_card.html": page, "plots/gains.svg": b"<svg/>"},
    )
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
    assert run.data.params["seed"] == "1"
    assert run.data.params["calibration"] == card.calibration.method
    assert run.data.params["criterion_count"] == "2"
    assert run.data.metrics["card.auc_low"] == pytest.approx(card.evaluation["intervals"]["auc"][0])
    assert run.data.metrics["naive_bayes.log_loss"] == card.evaluation["baselines"]["naive_bayes"]["log_loss"]
    assert run.data.metrics["origins.card.auc"] == card.evaluation["origins_mean"]["card"]["auc"]
    assert run.data.metrics["rounding.bound_points"] == 1.0
    assert {a.path for a in client.list_artifacts(run_id)} >= {"model_card.html", "plots"}
    downloaded = client.download_artifacts(run_id, "model_card.html", str(tmp_path))
    assert Path(downloaded).read_bytes() == page
    assert [a.path for a in client.list_artifacts(run_id, "plots")] == ["plots/gains.svg"]
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


@pytest.mark.parametrize("path", ["/etc/page.html", "../page.html", ""])
def test_log_card__refuses_artifacts_outside_of_the_run(card_and_deals, tmp_path, path):
    with pytest.raises(ValueError, match="artifact: its path must stay within the run"):
        log_card(card_and_deals[0], tracking_dir=tmp_path, artifacts={path: b""})


def test_figures_of__an_untested_card_are_few_and_finite(card_and_deals):
    card, X = card_and_deals
    few = fit_card(
        CardSpec((CriterionSpec("employees"),)), X[:20], [0, 1] * 10, pd.date_range("2024", periods=20), seed=1
    )
    assert figures_of(few) == {"win_rate": 0.5, "significant_criteria": 0.0}
    assert len(figures_of(card)) > 60
