"""Planted leaks are caught, honest criteria are not, and leaving one out changes nothing else."""

import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from simulated_deals import simulate

from ml.card import BandSpec, CardSpec, Choices, CriterionSpec, Pin
from ml.leaks import History, changed_since, filled_late, find_leaks, leak_sentences, too_good, without_leaks
from ml.scorecard import fit

SHARED = Path(os.environ.get("SCORING_SHARED_DATA", Path(__file__).parents[3].parent / "shared" / "data"))
BANK = SHARED / "bank_marketing" / "bank-additional-full.csv.gz"


def _found(leaks):
    return [(leak.criterion, leak.rule) for leak in leaks]


# --------------------------------------------------------------------------- too good


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("signal", [1.0, 1.6])
def test_too_good__lets_honest_criteria_pass(seed, signal):
    deals = simulate(1500, seed, signal=signal)
    assert too_good(deals.spec.criteria, deals.X, deals.y, seed=1) == []


def test_too_good__one_strong_honest_criterion_among_noise_passes():
    generator = np.random.default_rng(1)
    X = pd.DataFrame({f"x{k}": generator.normal(size=3000) for k in range(5)})
    y = (generator.random(3000) < 1 / (1 + np.exp(1 - 1.2 * X["x0"]))).astype(int)  # alone an AUC of 0.77
    assert too_good([CriterionSpec(name) for name in X], X, y, seed=1) == []


def _planted(kind: str, seed: int = 1):
    """Simulated deals with one criterion more that knows the outcome; the specification with and without it."""
    deals = simulate(1200, seed)
    generator = np.random.default_rng(seed)
    y = deals.y
    column = {
        "length": np.where(y == 1, generator.normal(8, 2, len(y)), generator.normal(2, 2, len(y))),
        "weaker": np.where(y == 1, generator.normal(1.6, 1, len(y)), generator.normal(0, 1, len(y))),
        "reason_lost": np.where((y == 0) & (generator.random(len(y)) < 0.4), "price", None),
        "contract": np.where((y == 1) & (generator.random(len(y)) < 0.5), 1.0, np.nan),
        "step": np.where((y == 1) & (generator.random(len(y)) < 0.4), "signing", generator.choice(["a", "b"], len(y))),
    }[kind]
    leak = CriterionSpec("leak", value_type="category" if kind in ("reason_lost", "step") else "number")
    spec = replace(deals.spec, criteria=(deals.spec.criteria[0], leak, *deals.spec.criteria[1:]))
    return deals, deals.X.assign(leak=column), spec


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("length", ": nothing that is known when a deal opens does."),
        ("weaker", "the 8 ordinary criteria together with 0."),
        ("reason_lost", "deals where leak is known were lost (100.0%)"),
        ("contract", "deals where leak is known were won (100.0%)"),
        ("step", "deals where leak is 'signing' were won (100.0%)"),
    ],
)
def test_too_good__catches_a_planted_leak_and_nothing_else(kind, words):
    deals, X, spec = _planted(kind)
    (leak,) = find_leaks(spec, X, deals.y, deals.closed_at, seed=1)
    assert (leak.criterion, leak.rule, leak.is_left_out) == ("leak", "too_good", True)
    assert words in leak.evidence


def test_too_good__two_copies_do_not_hide_each_other():
    deals, X, spec = _planted("weaker")
    X["copy"] = np.exp(X["leak"] / 3)
    both = (*spec.criteria, CriterionSpec("copy"))
    assert [leak.criterion for leak in too_good(both, X, deals.y, seed=1)] == ["leak", "copy"]


def test_too_good__says_nothing_of_few_deals():
    deals, X, spec = _planted("length")
    assert too_good(spec.criteria, X[:45], deals.y[:45], seed=1) == []
    assert too_good(spec.criteria, X, np.r_[np.ones(9), np.zeros(1191)], seed=1) == []


@pytest.mark.skipif(not BANK.exists(), reason="bank_marketing is not there; set SCORING_SHARED_DATA to its folder")
@pytest.mark.parametrize("rows", [slice(None), slice(0, 32_950), slice(0, 5000)])
def test_too_good__finds_the_duration_of_a_call_in_the_bank_table_and_nothing_else(rows):
    table = pd.read_csv(BANK, sep=";")
    y = (table.pop("y") == "yes").to_numpy().astype(int)
    table["pdays"] = table["pdays"].astype(float).where(table["pdays"] != 999)
    numbers = set(table.select_dtypes("number").columns)
    criteria = [CriterionSpec(c, value_type="number" if c in numbers else "category") for c in table]
    (leak,) = too_good(criteria, table.iloc[rows], y[rows], seed=1)
    assert leak.criterion == "duration"


# --------------------------------------------------------------------------- filled late


def _history(count: int = 100):
    opened = pd.Series(pd.date_range("2024-01-01", periods=count))
    closed = opened + pd.Timedelta(days=30)
    table = pd.DataFrame({"honest": opened - pd.Timedelta(days=1), "late": closed + pd.Timedelta(hours=1)})
    table["mixed"] = table["late"].where(np.arange(count) % 10 < 4, opened + pd.Timedelta(days=5))
    return table, opened, closed


def test_filled_late__finds_what_mostly_appeared_after_close():
    table, opened, closed = _history()
    table.loc[:39, "late"] = pd.NaT
    (leak,) = filled_late(table, opened, closed)
    assert (leak.criterion, leak.rule, leak.is_left_out) == ("late", "filled_late", True)
    assert leak.evidence.startswith(
        "60 of 60 values (100%) of late first appeared when the deal had closed, 0 were there"
    )
    (kept,) = filled_late(table, opened, closed, insist={"late"})
    assert kept.is_left_out is False
    table["mixed"] = (closed + pd.Timedelta(hours=1)).where(np.arange(100) % 10 < 6, opened + pd.Timedelta(days=5))
    assert _found(filled_late(table, opened, closed)) == [("late", "filled_late"), ("mixed", "filled_late")]
    assert filled_late(table[:19], opened[:19], closed[:19]) == []


def test_filled_late__a_first_export_after_the_close_is_no_evidence():
    table, opened, closed = _history()
    exported = pd.Timestamp("2024-06-01")
    table.loc[:79, :] = exported  # 80 deals came with the first export, long after they had closed
    assert filled_late(table, opened, closed)[0].evidence.startswith("20 of 20 values")
    table.loc[:, :] = exported
    assert filled_late(table, opened, closed) == []


# --------------------------------------------------------------------------- changed since


def test_changed_since__finds_values_that_were_rewritten():
    before = pd.DataFrame({"kept": 1, "moved": 1, "text": ["a", None] * 50}, index=np.arange(100))
    now = before.iloc[::-1].copy()
    now.loc[range(4), "moved"] = 2
    assert changed_since(before, now) == []  # 4 of 100: the interval begins at 1.8 %
    now.loc[range(12), "moved"] = 2
    (leak,) = changed_since(before, now, insist={"text"})
    assert leak.evidence == "moved of 12 of 100 deals (12%) has changed since they closed."
    now["text"] = "b"
    found = changed_since(before, now, insist={"text"})
    assert [(leak.criterion, leak.is_left_out) for leak in found] == [("moved", True), ("text", False)]
    assert changed_since(before[:50], now.loc[range(40, 100)]) == []


def test_changed_since__missing_values_that_stay_missing_have_not_changed():
    before = pd.DataFrame({"x": [1.0, np.nan] * 30, "c": pd.Series(["a", None] * 30, dtype=object)})
    assert changed_since(before, before.astype({"c": "str"}).where(before.notna(), None)) == []


# --------------------------------------------------------------------------- in the fit


def test_fit__without_the_leak_is_the_fit_of_a_table_that_never_had_it():
    deals, X, spec = _planted("length")
    population = deals.X.assign(leak=0.0)
    guarded = fit(spec, X, deals.y, deals.closed_at, seed=1, population=population)
    never = fit(deals.spec, deals.X, deals.y, deals.closed_at, seed=1, population=deals.X)
    (leak,) = guarded.card.evaluation["leaks"]
    assert (leak["criterion"], leak["is_left_out"]) == ("leak", True)
    assert never.card.evaluation["leaks"] == []
    assert "leak" not in guarded.card.criteria
    without = replace(
        guarded.card,
        evaluation={**guarded.card.evaluation, "leaks": []},
        verdict=tuple(s for s in guarded.card.verdict if not s.startswith("Alone, leak")),
    )
    assert without == never.card
    pd.testing.assert_frame_equal(guarded.out_of_fold, never.out_of_fold)
    assert guarded.card.verdict[-1].endswith("left out; set `insist: true` on the criterion to keep it.")
    assert len(guarded.card.verdict) == len(never.card.verdict) + 1


def test_fit__keeps_a_leak_that_somebody_insists_on_and_says_so():
    deals, X, spec = _planted("length")
    insisting = replace(spec, criteria=tuple(replace(c, insist=c.name == "leak") for c in spec.criteria))
    card = fit(insisting, X, deals.y, deals.closed_at, seed=1).card
    assert "leak" in card.criteria
    assert card.evaluation["leaks"][0]["is_left_out"] is False
    assert card.verdict[-1].endswith("kept because somebody insists.")
    assert card.evaluation["card"]["auc"] > 0.9


def test_fit__asks_the_history_it_is_given():
    deals = simulate(200, 2)
    opened = deals.closed_at - pd.Timedelta(days=30)
    seen = pd.DataFrame(dict.fromkeys(deals.X, opened - pd.Timedelta(days=1)), index=deals.X.index)
    seen["criterion_3"] = deals.closed_at
    before = deals.X.copy()
    before["criterion_5"] = "d"
    history = History(first_known_at=seen, opened_at=opened, before=before[:100], now=deals.X)
    fitted = fit(deals.spec, deals.X, deals.y, deals.closed_at, seed=1, history=history, with_evaluation=False)
    assert set(deals.X) - set(fitted.card.criteria) == {"criterion_3", "criterion_5"}
    assert [s.split(" ")[-1] for s in fitted.card.verdict if "taken for a leak" in s] == ["it.", "it."]
    with pytest.raises(ValueError, match="first_known_at needs opened_at"):
        History(first_known_at=seen)
    with pytest.raises(ValueError, match="before and now must be given together"):
        History(before=before)


def test_without_leaks__takes_what_people_fixed_of_the_criterion_along():
    spec = CardSpec(
        (
            CriterionSpec("region", value_type="category", bands=(BandSpec(values=("n",)),)),
            CriterionSpec("size"),
        ),
        segment_by="region",
        choices=Choices(pins=(Pin("region", "n", 5), Pin("size", "missing", 1)), signs={"region": "positive"}),
    )
    X, y = pd.DataFrame({"region": ["n"] * 60 + [None] * 140}), np.r_[np.ones(60), np.zeros(140)].astype(int)
    leaks = find_leaks(spec, X.assign(size=np.arange(200.0) % 7), y, pd.date_range("2024", periods=200), seed=1)
    assert _found(leaks) == [("region", "too_good")]
    rest = without_leaks(spec, leaks)
    assert [c.name for c in rest.criteria] == ["size"]
    assert rest.segment_by is None
    assert rest.choices == Choices(pins=(Pin("size", "missing", 1),))
    assert without_leaks(spec, [replace(leaks[0], is_left_out=False)]) is spec
    assert leak_sentences([replace(leaks[0], is_left_out=False)])[0].endswith("kept because somebody insists.")
