"""What a scorecard version would change, before it changes anything.

The version's settings are written, the very SQL of the refresh is run and its result read, in one transaction of the
warehouse that is rolled back. So a preview cannot differ from what activation does: nothing is computed twice in two ways.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

import duckdb

from orchestration.lib.card_store import StoredCard, active_card, shadow_cards
from orchestration.lib.compiled_project import CompiledModel, CompiledProject
from orchestration.lib.dbt_runner import read_project
from orchestration.lib.errors import UserError
from orchestration.lib.model_builds import rolled_back, run_models
from orchestration.lib.scorecard_settings import ScorecardSettings
from orchestration.lib.settings_tables import write_settings
from orchestration.lib.training import BEHIND_BEHAVIOUR
from orchestration.lib.warehouse import open_warehouse
from orchestration.lib.workspace import Workspace

if TYPE_CHECKING:
    import pandas as pd

_ACCOUNTS = "marts.scored_accounts"
_DEALS = "intermediate.int_deals__scored"

CAPACITIES_PCT = (5, 10, 20, 30, 50)


@dataclass(frozen=True)
class Preview:
    """The difference between a version and the active one, as of the last refresh.

    Attributes
    ----------
    accounts : one row per account, `before_` and `after_` of state, total_points, cell, next_action, rank and
        win_probability, with owner_id and segment.
    realised : `scored_accounts` as activation would make it, row for row.
    deals : one row per closed deal: is_won, closed_at, before_points, after_points and both probabilities, each by a
        fit that had not seen the deal where the version learnt from it.
    """

    version: str
    active_version: str
    as_of_at: datetime
    accounts: pd.DataFrame
    realised: pd.DataFrame
    deals: pd.DataFrame


def preview(
    workspace: Workspace,
    settings: ScorecardSettings,
    card: StoredCard,
    *,
    segment_by: str | None,
    say: Callable[[str], None],
) -> Preview:
    """Compare a version with the active one on the warehouse as it is. The caller holds the writer lock.

    Parameters
    ----------
    segment_by : criterion whose value groups the accounts; None = not grouped

    Raises
    ------
    UserError
        There is no active version, or it is this one.
    """
    active = active_card(workspace)
    if active is None or not workspace.warehouse.exists():
        raise UserError("nothing is scored yet, so there is nothing to compare with: run scoring refresh first")
    if active.version == card.version:
        raise UserError(f"scorecard version {card.version} is the active one: a preview would show no change")
    project = read_project(workspace)
    # The accounts and the closed deals, and all that they are made from after the card.
    scored = project.upstream_of("scored_accounts", "int_deals__scored")
    after_the_card = [model for model in scored if model.is_after_the_card]
    with open_warehouse(workspace) as con:
        as_of_at, known = _state(con)
    needed = {stored["criterion_key"] for stored in card.document["criteria"].values()}
    # Definitions that the last refresh did not compute, for example of a version retired long ago.
    before_the_card = feature_models(project) if needed - known else []
    with open_warehouse(workspace) as con:
        before = _scored(con, segment_by)
        deals_before = con.execute(f"select * from {_DEALS} where is_won is not null order by opportunity_id").df()
        say(f"scoring {len(before):,} accounts with {card.version}")
        with rolled_back(con):
            shadows = [shadow for shadow in shadow_cards(workspace) if shadow.version != card.version]
            write_settings(con, settings, card, as_of_at, shadows, in_transaction=True)
            run_models(con, [*before_the_card, *after_the_card])
            after = _scored(con, segment_by)
            deals_after = con.execute(f"select * from {_DEALS} where is_won is not null order by opportunity_id").df()
            realised = con.execute(f"select * from {_ACCOUNTS} order by account_id").df()
    return Preview(
        card.version,
        active.version,
        as_of_at,
        _beside(before, after),
        realised,
        _deals_beside(deals_before, deals_after),
    )


def feature_models(project: CompiledProject) -> list[CompiledModel]:
    """What depends on the criteria's definitions and comes before the card."""
    features = [model.name for model in project.models.values() if model.layer == "features"]
    return project.select("int_buying_groups", "int_account_attributes", *BEHIND_BEHAVIOUR, *features)


def _state(con: duckdb.DuckDBPyConnection) -> tuple[datetime, set[str]]:
    as_of_at = con.execute("select as_of_at from settings.refresh").fetchall()[0][0]
    keys = {key for (key,) in con.execute("select criterion_key from settings.criteria").fetchall()}
    return as_of_at, keys


def _scored(con: duckdb.DuckDBPyConnection, segment_by: str | None) -> pd.DataFrame:
    return con.execute(
        f"""
        select
            account_id, account_name, owner_id, contributions.value as segment, state, fit_points, engagement_points,
            total_points, cell, next_action, "rank", win_probability
        from {_ACCOUNTS} as accounts
        left join (select account_id, value from marts.score_contributions where criterion = ?) as contributions
            using (account_id)
        order by account_id
        """,
        [segment_by or ""],
    ).df()


def _beside(before: pd.DataFrame, after: pd.DataFrame) -> pd.DataFrame:
    shared = ["account_id", "account_name", "owner_id", "segment"]
    changing = [c for c in before.columns if c not in shared]
    joined = before[shared].merge(
        before[["account_id", *changing]].rename(columns={c: f"before_{c}" for c in changing}), on="account_id"
    )
    return joined.merge(
        after[["account_id", *changing]].rename(columns={c: f"after_{c}" for c in changing}),
        on="account_id",
        how="outer",
        validate="one_to_one",
    )


def _deals_beside(before: pd.DataFrame, after: pd.DataFrame) -> pd.DataFrame:
    columns = ["opportunity_id", "total_points", "win_probability"]
    left = before[[*columns, "account_id", "is_won", "closed_at"]].rename(
        columns={"total_points": "before_points", "win_probability": "before_probability"}
    )
    right = after[columns].rename(columns={"total_points": "after_points", "win_probability": "after_probability"})
    return left.merge(right, on="opportunity_id", validate="one_to_one")


# --------------------------------------------------------------------------- what it means


def cell_moves(accounts: pd.DataFrame) -> pd.DataFrame:
    """Accounts per cell before and after: from_cell, to_cell, account_count; accounts without a cell stand as "none"."""
    cells = accounts[["before_cell", "after_cell"]].astype(object).where(lambda frame: frame.notna(), "none")
    counted = cells.groupby(["before_cell", "after_cell"]).size().reset_index(name="account_count")
    return counted.rename(columns={"before_cell": "from_cell", "after_cell": "to_cell"})


def movers(accounts: pd.DataFrame) -> pd.DataFrame:
    """The accounts that change cell, the largest change of points first."""
    changed = accounts[_differs(accounts, "cell")].copy()
    changed["change"] = changed["after_total_points"].fillna(0) - changed["before_total_points"].fillna(0)
    order = changed["change"].abs().sort_values(ascending=False, kind="stable").index
    return changed.loc[order]


def by_group(accounts: pd.DataFrame, column: str) -> list[dict[str, Any]]:
    """Per owner or segment: accounts, how many change cell, how many enter and leave the best action, mean change."""
    scored = accounts[accounts["after_total_points"].notna() | accounts["before_total_points"].notna()]
    first = best_action(accounts)
    result = []
    for name, group in scored.groupby(scored[column].astype(object).where(scored[column].notna(), "none")):
        before, after = group["before_next_action"] == first, group["after_next_action"] == first
        change = group["after_total_points"] - group["before_total_points"]
        result.append(
            {
                "name": str(name),
                "account_count": len(group),
                "moved_count": int(_differs(group, "cell").sum()),
                "entered_count": int((after & ~before).sum()),
                "left_count": int((before & ~after).sum()),
                "mean_change_points": round(float(change.mean()), 1) if change.notna().any() else 0.0,
            }
        )
    return sorted(result, key=lambda row: (-row["moved_count"], row["name"]))


def best_action(accounts: pd.DataFrame) -> str | None:
    """The next action of the best cell that anybody is in: where accounts go to sales."""
    cells = accounts[["before_cell", "before_next_action"]].dropna().sort_values("before_cell")
    return None if cells.empty else str(cells["before_next_action"].iloc[0])


def wins_captured(deals: pd.DataFrame) -> list[dict[str, Any]]:
    """Wins among the best share of the past deals, by either version: the same capacity, other deals.

    Deals of equal points are shared evenly, so that no order among them flatters a version.
    """
    from ml.evaluate import gains

    won = deals["is_won"].to_numpy(dtype=float)
    if not len(won) or won.sum() == 0:
        return []
    shares = [share / 100 for share in CAPACITIES_PCT]
    before = gains(won, deals["before_points"].to_numpy(dtype=float), shares)
    after = gains(won, deals["after_points"].to_numpy(dtype=float), shares)
    return [
        {
            "capacity_pct": pct,
            "deal_count": round(len(won) * pct / 100),
            "before_won_count": round(float(b) * won.sum(), 1),
            "after_won_count": round(float(a) * won.sum(), 1),
        }
        for pct, b, a in zip(CAPACITIES_PCT, before, after, strict=True)
    ]


def loss_change(deals: pd.DataFrame, *, seed: int) -> dict[str, Any]:
    """AUC and log loss of both versions on the closed deals, and the gain with its 90 % interval, paired by deal."""
    from ml.evaluate import bootstrap_intervals, figures

    won = deals["is_won"].to_numpy(dtype="int64")
    result: dict[str, Any] = {"deal_count": len(won), "won_count": int(won.sum()), "before": None, "after": None}
    if not 0 < won.sum() < len(won):
        return result
    chances, totals = {}, {}
    for name in ("before", "after"):
        chances[name] = deals[f"{name}_probability"].to_numpy(dtype=float)
        totals[name] = deals[f"{name}_points"].to_numpy(dtype=float)
        its = figures(won, chances[name], totals[name])
        result[name] = {"auc": its["auc"], "log_loss": its["log_loss"]}
    result["gain"] = result["before"]["log_loss"] - result["after"]["log_loss"]
    intervals = bootstrap_intervals(won, chances["after"], totals["after"], {"before": chances["before"]}, seed=seed)
    result["gain_interval"] = intervals["gain_over_before"]
    return result


def _differs(frame: pd.DataFrame, name: str) -> pd.Series:
    before, after = frame[f"before_{name}"], frame[f"after_{name}"]
    return (before != after) & ~(before.isna() & after.isna())
