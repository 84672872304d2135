"""From when on which order of stages was listed, in the landed settings."""

from __future__ import annotations

from pathlib import Path

from orchestration.lib.card_store import SETTINGS
from orchestration.lib.documents import land_document
from orchestration.lib.stage_orders import not_restored, stage_orders
from orchestration.lib.workspace import Workspace


def land(workspace: Workspace, text: str) -> None:
    land_document(workspace, SETTINGS, "scorecard.yml", text.encode())


def test_stage_orders__begin_with_the_settings_that_first_listed_them(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    assert stage_orders(workspace) == []
    for text in (
        "pipeline: {stages: [call, offer]}",
        "currency: USD\npipeline: {stages: [call, offer]}",
        "pipeline: {stages: [offer, call]}",
        "currency: EUR",
    ):
        land(workspace, text)
    orders = stage_orders(workspace)
    assert [names for _, names in orders] == [["call", "offer"], ["offer", "call"], []]
    assert [moment for moment, _ in orders] == sorted(moment for moment, _ in orders)
    (sentence,) = not_restored(orders)
    assert f"before {orders[0][0]:%Y-%m-%d}" in sentence
    assert "call, offer" in sentence


def test_stage_orders__that_nobody_listed_lack_nothing(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    land(workspace, "")
    orders = stage_orders(workspace)
    assert [names for _, names in orders] == [[]]
    assert not_restored(orders) == ()
