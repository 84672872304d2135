"""Which order of the open stages was known when, from the landed settings.

Belongs here: reading past settings for it. Does not: learning an order from deals (`int_deals__stages`, `ml.forecast.history`).
"""

from __future__ import annotations

from datetime import datetime

import yaml

from orchestration.lib.card_store import SETTINGS
from orchestration.lib.documents import arrived_at, landed_documents
from orchestration.lib.workspace import Workspace


def stage_orders(workspace: Workspace) -> list[tuple[datetime, list[str]]]:
    """Moment (naive UTC) from which it held -> `pipeline.stages` of scorecard.yml, where it changed; the oldest first.

    No stages: none were listed, the order was learnt from the deals. Empty: nothing was ever landed.
    """
    found: list[tuple[datetime, list[str]]] = []
    for path in landed_documents(workspace, SETTINGS):
        # Landed after it was checked; keys that are no settings any more do not matter here.
        document = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
        listed = list((document.get("pipeline") or {}).get("stages") or [])
        if not found or found[-1][1] != listed:
            found.append((arrived_at(path), listed))
    return found


def not_restored(orders: list[tuple[datetime, list[str]]]) -> tuple[str, ...]:
    """What the order of the stages at past moments is not known from, as sentences."""
    if not orders or not orders[0][1]:
        return ()
    since, listed = orders[0]
    return (
        f"the order of stages before {since:%Y-%m-%d}, when settings were first landed: taken to be the one that they list "
        f"({', '.join(listed)})",
    )
