"""Are a deal's features the same when everything later is taken away? Asked of the warehouse itself.

The refresh's own SQL is run as of an earlier moment, in a transaction that is rolled back, and the features of the deals that
were open or closed by then are compared with those that a fit sees today. What differs has seen the future. Which finding counts
as a leak is in `ml.leaks`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from orchestration.lib.card_store import active_card, shadow_cards
from orchestration.lib.dbt_runner import read_project
from orchestration.lib.errors import UserError
from orchestration.lib.model_builds import rolled_back, run_models
from orchestration.lib.scorecard_settings import ScorecardSettings
from orchestration.lib.settings_tables import write_settings
from orchestration.lib.training import SPINES, read_features
from orchestration.lib.warehouse import open_warehouse
from orchestration.lib.workspace import Workspace

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Replay:
    """Features of the same deals, index spine_id, one column per criterion.

    Attributes
    ----------
    until : the moment as of which `then` was made; the deals were opened by it.
    then, now : without and with what came later.
    """

    until: datetime
    then: pd.DataFrame
    now: pd.DataFrame


def replay_features(
    workspace: Workspace,
    settings: ScorecardSettings,
    definitions: Mapping[str, Mapping[str, Any]],
    *,
    until: datetime | None,
    say: Callable[[str], None],
) -> Replay:
    """Compute the training features again as of an earlier moment. The caller holds the writer lock.

    Parameters
    ----------
    definitions : criterion -> criterion_key and definition
    until : None = when four fifths of the deals had been opened

    Raises
    ------
    UserError
        There is no warehouse or no deal, the warehouse does not compute a definition, or `until` is not in the past of
        the last refresh.
    """
    if not workspace.warehouse.exists():
        raise UserError("there is no warehouse yet: run scoring refresh first")
    subject = SPINES[settings.label.target]
    spine = f"intermediate.int_spine__{subject}"
    models = read_project(workspace).step(after_the_card=False)
    with open_warehouse(workspace) as con:
        as_of_at = con.execute("select as_of_at from settings.refresh").fetchall()[0][0]
        known = {key for (key,) in con.execute("select criterion_key from settings.criteria").fetchall()}
        missing = [name for name, stored in definitions.items() if stored["criterion_key"] not in known]
        if missing:
            raise UserError(f"the warehouse does not compute {', '.join(missing)} as the card defines them")
        if until is None:
            found = con.execute(f"select quantile_disc(as_of_at, 0.8) from {spine}").fetchall()[0][0]
            if found is None:
                raise UserError("no deal has a date of opening: there is nothing to compare")
            until = found
        if until >= as_of_at:
            raise UserError(f"the moment must lie before the last refresh, {as_of_at} (value: {until})")
        now = read_features(con, definitions, subject)
        say(f"computing the features again as of {until:%Y-%m-%d %H:%M}")
        with rolled_back(con):
            # With the versions in use, so that their definitions are computed too.
            write_settings(con, settings, active_card(workspace), until, shadow_cards(workspace), in_transaction=True)
            run_models(con, models)
            then = read_features(con, definitions, subject)
    same = then.index.intersection(now.index)
    return Replay(until, then.loc[same], now.loc[same])
