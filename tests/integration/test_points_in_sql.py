"""dbt and `ml` score alike: a card with segments and pairs, as the warehouse joins it and as Python computes it."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from orchestration.lib.card_store import StoredCard, active_card
from orchestration.lib.contracts import load_contracts
from orchestration.lib.dbt_runner import read_project
from orchestration.lib.model_builds import GOOD, build
from orchestration.lib.scorecard_settings import read_scorecard_settings
from orchestration.lib.settings_tables import write_settings
from orchestration.lib.signals import known_signals
from orchestration.lib.warehouse import open_warehouse
from orchestration.lib.workspace import SOURCE_CONTRACTS, Workspace
from tests.conftest import Company

if TYPE_CHECKING:
    import pandas as pd

    from ml.card import Card

SHADOW = "v99"


def with_segment_and_pair(active: StoredCard) -> StoredCard:
    """The active card with rows of its own for companies from Germany, and a pair of country and pricing page views."""
    document = copy.deepcopy(active.document) | {"scorecard_version": SHADOW}
    card: dict[str, Any] = document["card"]
    pairs = {pair["name"] for pair in card["pairs"]}
    everybody = [row for row in card["bands"] if row["segment"] == "" and row["criterion"] not in pairs]
    plain = {**everybody[0], "kind": "implicit", "lower": None, "upper": None, "criterion": "country_pricing"}
    pair = [
        {**plain, "band_no": 1, "band": "de & many", "band_type": "values", "values": ["1|3", "1|4"], "points": 12},
        {**plain, "band_no": 2, "band": "other", "band_type": "other", "values": None, "points": 0},
    ]
    rows = everybody + pair
    own = [{**row, "segment": "de", "points": 2 * row["points"] - 3} for row in rows]
    card |= {
        "bands": rows + own,
        "pairs": [{"name": "country_pricing", "left": "country", "right": "pricing_page_views"}],
        "segment_by": "country",
    }
    return StoredCard(SHADOW, "shadow", document, None)


@pytest.fixture(scope="module")
def scored(demo: Company, tmp_path_factory: pytest.TempPathFactory) -> tuple[Workspace, Card, pd.DataFrame]:
    """A workspace in which that card scores in the shadow, the card, and the features of every account."""
    from ml.card import Card

    workspace = demo.copy(tmp_path_factory.mktemp("shadow") / "workspace")
    settings = read_scorecard_settings(workspace.scorecard_file, known_signals(load_contracts(SOURCE_CONTRACTS)))
    active = active_card(workspace)
    assert active is not None
    shadow = with_segment_and_pair(active)
    columns = [
        f"max(case when criterion_key = '{kept['criterion_key']}' then "
        f"{'value_text' if kept['definition']['value_type'] == 'category' else 'cast(value_micro as double) / 1000000'} end) "
        f'as "{name}"'
        for name, kept in shadow.document["criteria"].items()
    ]
    with open_warehouse(workspace) as con:
        as_of_at = con.execute("select as_of_at from settings.refresh").fetchall()[0][0]
        write_settings(con, settings, active, as_of_at, shadows=[shadow])
        features = con.execute(
            f"select spine_id, {', '.join(columns)} from (from features.ftr_accounts__explicit union all "
            "from features.ftr_accounts__implicit) group by spine_id"
        ).df()
    models = read_project(workspace).select("int_accounts__shadow_points", "score_versions_compared")
    with open_warehouse(workspace) as con:
        assert {result.status for result in build(con, models, [])} == {GOOD}
    return workspace, Card.from_document(shadow.document["card"]), features.set_index("spine_id").sort_index()


def read(workspace: Workspace, query: str) -> pd.DataFrame:
    with open_warehouse(workspace) as con:
        return con.execute(query).df()


def test_points__of_every_account_and_criterion_are_those_of_the_card(scored: tuple[Any, ...]) -> None:
    workspace, card, features = scored
    expected = card.points(features)
    found = read(workspace, "select spine_id, criterion, points from intermediate.int_accounts__shadow_points")
    table = found.pivot(index="spine_id", columns="criterion", values="points").sort_index()[list(expected.columns)]
    np.testing.assert_array_equal(table.to_numpy(), expected.to_numpy())
    assert (expected["country_pricing"] != 0).sum() > 10, "nobody is in the pair: the test shows nothing"


def test_segment__is_that_of_the_card(scored: tuple[Any, ...]) -> None:
    workspace, card, features = scored
    query = (
        "select spine_id, max(segment) as segment from intermediate.int_accounts__shadow_points group by 1 order by 1"
    )
    found = read(workspace, query).set_index("spine_id")["segment"]
    expected = card.segments_of(features)
    assert found.tolist() == expected.tolist()
    assert 0 < (expected == "de").sum() < len(expected)


def test_versions__are_compared_by_their_own_totals_and_curves(scored: tuple[Any, ...]) -> None:
    workspace, card, features = scored
    found = read(
        workspace,
        f"select * from marts.score_versions_compared where scorecard_version = '{SHADOW}' order by account_id",
    )
    totals = card.total_points(features).loc[found["account_id"]].to_numpy()
    np.testing.assert_array_equal((found["total_points"] - found["adjustment_points"]).to_numpy(), totals)
    np.testing.assert_array_equal(found["win_probability"].to_numpy(), card.win_probability(totals)[0])
    assert sorted(found["rank"]) == list(range(1, len(found) + 1))
    assert (found.sort_values("rank")["total_points"].diff().dropna() <= 0).all()
    both = read(workspace, "select account_id from marts.score_versions_compared where version_state = 'active'")
    assert sorted(both["account_id"]) == found["account_id"].tolist()


def test_active_version__differs_from_itself_in_nothing(scored: tuple[Any, ...]) -> None:
    query = (
        "select count(*) as n, max(abs(points_difference)) as p, max(abs(rank_difference)) as r, "
        "max(abs(win_probability_difference)) as w, bool_or(is_other_cell) as c "
        "from marts.score_versions_compared where version_state = 'active'"
    )
    n, *differences = read(scored[0], query).iloc[0]
    assert n > 100
    assert differences == [0, 0, 0, False]
