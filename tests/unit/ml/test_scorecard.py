"""The card: planted weights come back, it starts cold, it says when there is nothing, its points add up."""

import json
import math
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from simulated_deals import VALUES, simulate

from ml.card import WEIGHT_PER_POINT, BandSpec, Card, CardSpec, CriterionSpec, points_from_weights
from ml.scorecard import fit_card


def log_loss(y: np.ndarray, p: np.ndarray) -> float:
    return float(-np.mean(np.where(y == 1, np.log(p), np.log1p(-p))))


@pytest.fixture(scope="module")
def warm():
    return simulate(3000, 1)


@pytest.fixture(scope="module")
def card(warm) -> Card:
    return fit_card(warm.spec, warm.X, warm.y, warm.closed_at, seed=1)


def planted_and_found(weights: np.ndarray, card: Card) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """True and fitted weights, each centred per criterion, and the half-widths of the intervals."""
    found = np.array([b.weight for b in card.bands if b.band_type == "values"]).reshape(weights.shape)
    half = np.array([b.weight_high - b.weight for b in card.bands if b.band_type == "values"])
    return weights, found - found.mean(axis=1, keepdims=True), half.reshape(weights.shape)


@pytest.mark.parametrize("experts", ["good", "none"])
def test_fit__recovers_planted_weights_in_sign_order_and_size(experts):
    deals = simulate(6000, 3, experts=experts)
    planted, found, half = planted_and_found(
        deals.weights, fit_card(deals.spec, deals.X, deals.y, deals.closed_at, seed=1, with_evaluation=False)
    )
    clear = np.abs(planted) > 0.3
    assert np.all(np.sign(found[clear]) == np.sign(planted[clear]))
    assert np.corrcoef(planted.ravel(), found.ravel())[0, 1] > 0.97
    assert np.mean(np.abs(found - planted)) < 0.1
    assert 0.85 < np.polyfit(planted.ravel(), found.ravel(), 1)[0] < 1.1
    assert 0.75 <= np.mean(np.abs(found - planted) <= half) <= 1.0
    for true_row, found_row in zip(planted, found, strict=True):
        assert true_row.argmax() == found_row.argmax() or np.ptp(np.sort(true_row)[-2:]) < 0.2


def test_fit__without_deals_is_the_experts_card_with_a_wide_probability():
    deals = simulate(0, 1)
    card = fit_card(deals.spec, deals.X, deals.y, deals.closed_at, seed=1)
    assert all(b.points == b.expert_points for b in card.bands)
    assert all(b.data_share_pct == 0 and b.weight_low < b.weight < b.weight_high for b in card.bands)
    p, low, high = card.win_probability([0, 40])
    assert p[0] == pytest.approx(deals.spec.expected_win_rate)
    assert p[1] > p[0]
    assert high[0] - low[0] > 0.3
    assert "No closed deals yet: the card is the experts' card." in card.verdict


@pytest.mark.parametrize("outcome", [0, 1])
def test_fit__one_outcome_only_stays_with_the_experts_and_says_so(outcome):
    deals = simulate(40, 1)
    card = fit_card(deals.spec, deals.X, np.full(40, outcome), deals.closed_at, seed=1)
    assert all(b.points == b.expert_points for b in card.bands)
    assert sum(b.deal_count for b in card.bands if b.criterion == "criterion_0") == 40
    assert any("None of 40 closed deals was" in sentence for sentence in card.verdict)
    p = card.win_probability(card.total_points(deals.X))[0].mean()
    assert (p > 0.5) == bool(outcome)


def test_fit__a_single_won_deal_among_lost_ones():
    deals = simulate(25, 2)
    y = np.zeros(25, dtype=int)
    y[3] = 1
    card = fit_card(deals.spec, deals.X, y, deals.closed_at, seed=1)
    assert "Only 1 won deal: the card is mostly expert judgement." in card.verdict
    assert card.win_probability(0)[0] < 0.25


@pytest.mark.parametrize("experts", ["good", "poor"])
@pytest.mark.parametrize("deal_count", [0, 5, 40, 200, 1000])
def test_cold_start__never_clearly_worse_than_experts_alone_or_data_alone(experts, deal_count):
    later = simulate(5000, 900, experts=experts)
    belief = np.array([[b.points for b in c.bands] for c in later.spec.criteria])
    codes = np.stack([np.searchsorted(VALUES, later.X[c]) for c in later.X], axis=1)
    total = belief[np.arange(belief.shape[0]), codes].sum(axis=1) * WEIGHT_PER_POINT
    experts_alone = log_loss(later.y, 1 / (1 + np.exp(-(-1.3 + total))))  # they are told the true intercept
    losses, data_losses = [], []
    for seed in range(4):
        deals = simulate(deal_count, seed, experts=experts)
        unbelieved = replace(
            deals.spec,
            criteria=tuple(replace(c, bands=tuple(replace(b, points=0) for b in c.bands)) for c in deals.spec.criteria),
            belief_grid=(),
            belief_deals=10.0,
        )
        for spec, kept in ((deals.spec, losses), (unbelieved, data_losses)):
            card = fit_card(spec, deals.X, deals.y, deals.closed_at, seed=1, with_evaluation=False)
            kept.append(log_loss(later.y, card.win_probability(card.total_points(later.X))[0]))
    assert np.mean(losses) < min(experts_alone, np.mean(data_losses)) + 0.02


def test_fit__data_overrule_belief_as_deals_close():
    shares = [
        np.mean([b.data_share_pct for b in _fit(simulate(n, 1)).bands if b.band_type == "values"])
        for n in (40, 400, 4000)
    ]
    assert shares[0] < 35 < shares[2]
    assert shares == sorted(shares)


def _fit(deals, **kwargs) -> Card:
    return fit_card(deals.spec, deals.X, deals.y, deals.closed_at, seed=1, with_evaluation=False, **kwargs)


def test_no_signal__is_said_in_words_and_the_probability_is_flat():
    deals = simulate(2500, 11, signal=0.0)
    card = fit_card(deals.spec, deals.X, deals.y, deals.closed_at, seed=1)
    assert card.evaluation["signal"] == "none"
    assert card.verdict[0].startswith("There is no signal: on the 500 deals closed after 2024-")
    assert card.verdict[0].endswith("Do not rank by these weights.")
    p, low, high = card.win_probability(np.array([-200, 0, 200]))
    assert np.ptp(p) == 0
    assert p[0] == pytest.approx(deals.y.mean(), abs=0.002)
    assert low[0] < deals.y.mean() < high[0]


def test_signal__is_said_in_words_with_figures(card):
    assert card.evaluation["signal"] == "shown"
    assert card.verdict[0].startswith("The card ranks better than chance: on the 600 deals closed after")
    assert set(card.evaluation["baselines"]) == {
        "base_rate",
        "expert_card",
        "naive_bayes",
        "logistic_regression",
        "gradient_boosting",
    }
    assert card.evaluation["card"]["log_loss"] < card.evaluation["baselines"]["base_rate"]["log_loss"]
    assert card.calibration.method in ("sigmoid", "isotonic")
    p = card.win_probability([-20, 20])[0]
    assert np.diff(np.log(p / (1 - p)))[0] == pytest.approx(40 * WEIGHT_PER_POINT, rel=0.2)


def test_few_deals__are_not_evaluated_and_that_is_said():
    deals = simulate(50, 1)
    card = fit_card(deals.spec, deals.X, deals.y, deals.closed_at, seed=1)
    assert card.evaluation["state"] == "too_few_deals"
    assert card.verdict[0].startswith(f"Not enough closed deals to evaluate (50, {deals.y.sum()} of them won")
    assert f"Only {deals.y.sum()} won deals: the card is mostly expert judgement." in card.verdict


def test_card__points_are_rounded_weights(card):
    assert [b.points for b in card.bands] == [math.floor(20 / math.log(2) * b.weight + 0.5) for b in card.bands]
    assert points_from_weights([0.5 * WEIGHT_PER_POINT, -0.5 * WEIGHT_PER_POINT]).tolist() == [1, 0]


def test_card__survives_json(card, warm):
    again = Card.from_document(json.loads(json.dumps(card.to_document(), allow_nan=False)))
    assert again == card
    pd.testing.assert_frame_equal(again.points(warm.X), card.points(warm.X))
    with pytest.raises(ValueError, match="format must be"):
        Card.from_document({"format": "other"})


@settings(deadline=None, max_examples=60)
@given(
    st.lists(
        st.tuples(
            st.one_of(st.none(), st.sampled_from([*VALUES, "unknown", ""])),
            st.one_of(st.none(), st.sampled_from(VALUES)),
        ),
        min_size=1,
        max_size=8,
    )
)
def test_card__total_is_the_sum_of_its_criteria_for_any_input(rows):
    card = CARD_OF_TWO()
    X = pd.DataFrame(rows, columns=["criterion_0", "criterion_1"])
    points = card.points(X)
    assert points.dtypes.unique().tolist() == [np.dtype(np.int64)]
    assert card.total_points(X).tolist() == [sum(row) for row in points.itertuples(index=False)]
    table = {(b.criterion, b.band_no): b.points for b in card.bands}
    numbers = card.band_numbers(X)
    for name in points:
        assert points[name].tolist() == [table[name, n] for n in numbers[name]]
        is_missing = X[name].isna()
        assert (numbers[name][is_missing] == 6).all()
        assert (numbers[name][~is_missing & ~X[name].isin(VALUES)] == 5).all()


_KEPT: list[Card] = []


def CARD_OF_TWO() -> Card:  # noqa: N802 - fitted once, hypothesis takes no module fixtures
    if not _KEPT:
        _KEPT.append(_fit(simulate(300, 1, criterion_count=2)))
    return _KEPT[0]


def test_win_probability__is_the_table_of_every_total(card):
    table = card.calibration
    least = {name: min(b.points for b in card.bands if b.criterion == name) for name in card.criteria}
    most = {name: max(b.points for b in card.bands if b.criterion == name) for name in card.criteria}
    assert (table.points_from, table.points_to) == (sum(least.values()), sum(most.values()))
    for place in (0, 17, len(table.probability) - 1):
        expected = [table.probability[place], table.low[place], table.high[place]]
        assert [float(v) for v in card.win_probability(table.points_from + place)] == expected


def test_fit__numbers_with_holes_all_missing_columns_and_bands_without_deals():
    generator = np.random.default_rng(5)
    x = generator.uniform(0, 100, 800)
    y = (generator.random(800) < 0.1 + 0.6 * (x > 50)).astype(int)
    X = pd.DataFrame({"size": np.where(generator.random(800) < 0.2, np.nan, x), "empty": np.nan, "gone": None})
    spec = CardSpec(
        (
            CriterionSpec("size", missing_points=4),
            CriterionSpec("empty", bands=(BandSpec(upper=5, points=30), BandSpec(lower=5, points=-30))),
            CriterionSpec("gone", value_type="category", other_points=10),
        )
    )
    closed_at = pd.date_range("2024-01-01", periods=800, freq="h")
    card = fit_card(spec, X, y, closed_at, seed=1)
    bands = {(b.criterion, b.band): b for b in card.bands}
    assert bands["empty", "< 5"].weight == pytest.approx(card.trust * 30 * WEIGHT_PER_POINT)
    assert bands["empty", "< 5"].data_share_pct == 0
    assert bands["empty", "missing"].deal_count == 800
    assert bands["gone", "other"].weight == pytest.approx(card.trust * 10 * WEIGHT_PER_POINT)
    sizes = [b for b in card.bands if b.criterion == "size" and b.band_type == "range"]
    assert sizes[-1].points - sizes[0].points > 20
    assert bands["size", "missing"].deal_count == int(X["size"].isna().sum())


def test_fit__monotone_holds_in_the_weights_also_for_fixed_bands():
    generator = np.random.default_rng(6)
    x = generator.uniform(0, 50, 1500)
    y = (generator.random(1500) < np.array([0.1, 0.4, 0.3, 0.25, 0.6])[(x // 10).astype(int)]).astype(int)
    ranges = tuple(BandSpec(lower=low, upper=low + 10) for low in range(0, 50, 10))
    closed_at = pd.date_range("2024-01-01", periods=1500, freq="h")
    X = pd.DataFrame({"views": x})

    def weights(direction):
        spec = CardSpec((CriterionSpec("views", bands=ranges, monotone=direction),))
        card = fit_card(spec, X, y, closed_at, seed=1, with_evaluation=False)
        inside = [b for b in card.bands if b.band_type == "range" and b.deal_count]
        return np.array([b.weight for b in inside])

    assert weights(None)[1] > weights(None)[3] + 0.1
    held = weights("increasing")
    assert np.all(np.diff(held) >= -1e-9)
    assert held[1] == held[2] == held[3]
    assert held[4] > held[3] > held[0]


def test_fit__population_centres_the_probability_of_a_card_with_positive_points_only():
    spec = CardSpec(
        tuple(
            CriterionSpec(f"touch_{k}", "implicit", bands=(BandSpec(upper=1), BandSpec(lower=1, points=30)))
            for k in range(4)
        )
    )
    accounts = pd.DataFrame(np.ones((50, 4)), columns=[f"touch_{k}" for k in range(4)])
    card = fit_card(spec, accounts.iloc[:0], [], [], seed=1, population=accounts)
    assert card.win_probability(card.total_points(accounts))[0].mean() == pytest.approx(0.25)


def test_fit__again_is_the_same_and_order_of_rows_does_not_matter():
    deals = simulate(400, 4)
    first = fit_card(deals.spec, deals.X, deals.y, deals.closed_at, seed=3)
    assert fit_card(deals.spec, deals.X, deals.y, deals.closed_at, seed=3) == first
    order = np.random.default_rng(0).permutation(400)
    mixed = fit_card(deals.spec, deals.X.iloc[order], deals.y[order], deals.closed_at[order], seed=3)
    assert [b.points for b in mixed.bands] == [b.points for b in first.bands]


@pytest.mark.parametrize(
    ("y", "closed_at", "message"),
    [
        ([0, 2], ["2024-01-01", "2024-01-02"], "y must be 0 .lost. or 1 .won., got .*2.* in row 1"),
        ([0], ["2024-01-01", "2024-01-02"], r"one outcome per deal \(2\), got 1"),
        ([0, 1], ["2024-01-01", None], "closed_at must be known for every deal, missing in row 1"),
        ([0, 1], ["2024-01-01"], r"one time per deal \(2\), got 1"),
    ],
)
def test_fit__refuses_what_is_no_closed_deal(y, closed_at, message):
    X = pd.DataFrame({"size": [1.0, 2.0]})
    with pytest.raises(ValueError, match=message):
        fit_card(CardSpec((CriterionSpec("size"),)), X, y, closed_at, seed=1)


def test_fit__a_column_that_is_not_there_is_named():
    with pytest.raises(ValueError, match="criterion size: X has no such column; it has age"):
        fit_card(CardSpec((CriterionSpec("size"),)), pd.DataFrame({"age": [1.0]}), [1], ["2024-01-01"], seed=1)


def test_fit__no_criteria_still_gives_the_base_rate():
    card = fit_card(CardSpec(()), pd.DataFrame(index=range(100)), [1, 0] * 50, ["2024-01-01"] * 100, seed=1)
    assert card.bands == ()
    assert card.win_probability(0)[0] == pytest.approx(0.477, abs=0.01)
