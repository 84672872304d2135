"""Versions of the scorecard as an analyst uses them: tune, preview, activate, watch a shadow, take back, move."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from click.testing import CliRunner, Result

from orchestration.cli.main import main
from orchestration.lib.card_store import active_card, decisions, find_card, stored_cards
from orchestration.lib.job_runner import run_job
from orchestration.lib.marts_reader import open_marts, rows
from orchestration.lib.workspace import Workspace
from tests.conftest import DEMO_END
from tests.integration.test_demo_company_end_to_end import marts_of

AS_OF = DEMO_END.isoformat()
#: The first fit is made as of this day, so that deals have closed since when the next one is judged.
EARLIER = (datetime.combine(DEMO_END, datetime.min.time()) - timedelta(days=120)).isoformat()


def scoring(workspace: Workspace, *arguments: str, expect: int = 0) -> Result:
    result = CliRunner().invoke(main, ["--home", str(workspace.home), *arguments])
    assert result.exit_code == expect, result.output
    return result


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory, refresh: Callable[..., Any]) -> Workspace:
    from orchestration.cli.demo import land_company

    workspace = Workspace(tmp_path_factory.mktemp("versions") / "workspace")
    land_company(workspace, accounts=500, events=None, months=24, seed=11, until=DEMO_END, quiet=True)
    refresh(workspace, EARLIER)
    refresh(workspace, AS_OF)
    return workspace


def scored(workspace: Workspace) -> pd.DataFrame:
    with open_marts(workspace) as con:
        return con.execute("select * from scored_accounts order by account_id").df()


def test_preview__is_what_activation_does_and_a_rollback_gives_the_same_marts_again(
    workspace: Workspace, refresh: Callable[..., Any]
) -> None:
    from orchestration.lib.preview import preview
    from orchestration.lib.scorecard_settings import settings_of
    from orchestration.lib.warehouse import writer_lock

    before = marts_of(workspace)
    told = scoring(workspace, "weights", "tune", "--set", "industry/software=40", "--note", "a wish").output
    version = stored_cards(workspace)[-1].version
    assert f"Stored as draft {version}" in told
    shown = scoring(workspace, "weights", "show", version).output
    assert "are those of v1: 1 row of this card had points changed by hand" in " ".join(shown.split())
    (auc,) = [
        line.split()
        for line in scoring(workspace, "weights", "diff", "v1", version).output.splitlines()
        if " auc " in line
    ]
    assert len(auc) == 2, "a figure of v1, none of the version changed by hand"
    assert marts_of(workspace) == before, "a draft scores nothing"

    with writer_lock(workspace):
        shown = preview(
            workspace, settings_of(workspace), find_card(workspace, version), segment_by="industry", say=print
        )
    assert marts_of(workspace) == before, "a preview changes nothing"

    scoring(workspace, "weights", "activate", version, "--note", "let us try")
    refresh(workspace, AS_OF)
    realised = scored(workspace)
    pd.testing.assert_frame_equal(shown.realised, realised)
    assert (realised["scorecard_version"] == version).all()
    moved = shown.accounts[shown.accounts["before_total_points"] != shown.accounts["after_total_points"]].dropna(
        subset=["after_total_points"]
    )
    assert set(moved["segment"]) == {"software"}
    (row,) = [b for b in find_card(workspace, version).document["card"]["bands"] if b["band"] == "software"]
    (old,) = [b for b in find_card(workspace, "v1").document["card"]["bands"] if b["band"] == "software"]
    assert row["points"] == 40
    assert set(moved["after_total_points"] - moved["before_total_points"]) == {40 - old["points"]}

    scoring(workspace, "weights", "rollback", "--note", "it was only a wish")
    refresh(workspace, AS_OF)
    assert marts_of(workspace) == before
    last = decisions(workspace)[-1]
    assert (last.version, last.state, last.rollback_of, last.note) == ("v1", "active", version, "it was only a wish")


def test_preview__on_the_screen_says_who_moves_and_what_it_does_to_past_deals(workspace: Workspace) -> None:
    scoring(workspace, "weights", "tune", "--set", "industry/software=-40", "--note", "the reverse")
    version = stored_cards(workspace)[-1].version
    text = scoring(workspace, "weights", "preview", version, "--by", "industry").output
    for part in (
        "change cell",
        "Accounts that move most",
        "Per owner",
        "Per industry",
        "Wins among the best past deals",
        "AUC",
    ):
        assert part in text
    table = scoring(workspace, "weights", "preview", version, "--format", "csv").stdout
    read = list(csv.DictReader(io.StringIO(table[table.index("account_id") :])))
    assert len(read) == len(scored(workspace))
    unknown = scoring(workspace, "weights", "preview", version, "--by", "colour", expect=1).output
    assert "scores no criterion of this name" in unknown
    assert "'colour'" in unknown
    assert "is the active one" in scoring(workspace, "weights", "preview", "v1", expect=1).output


def test_tune__refits_round_a_pin_and_a_sign_and_later_fits_hold_them(
    workspace: Workspace, refresh: Callable[..., Any]
) -> None:
    text = scoring(
        workspace, "weights", "tune", "--pin", "industry/retail=7", "--sign", "email_clicks=negative", "--note", "by the board"
    ).output  # fmt: skip
    assert "log loss" in text
    tuned = stored_cards(workspace)[-1]
    assert tuned.state == "draft"
    assert tuned.document["parent"] == "v1"

    def held(document: dict[str, Any]) -> tuple[set[int], bool]:
        bands = document["card"]["bands"]
        retail = {b["points"] for b in bands if (b["criterion"], b["band"]) == ("industry", "retail")}
        clicks = [b["points"] for b in bands if b["criterion"] == "email_clicks" and b["band_type"] == "range"]
        return retail, all(points <= 0 for points in clicks)

    assert held(tuned.document) == ({7}, True)
    others = {
        (b["criterion"], b["band"]): b["points"]
        for b in tuned.document["card"]["bands"]
        if b["criterion"] != "industry"
    }
    first = {(b["criterion"], b["band"]): b["points"] for b in find_card(workspace, "v1").document["card"]["bands"]}
    assert any(points != first[name] for name, points in others.items() if name in first), "the rest was fitted again"

    scoring(workspace, "weights", "activate", tuned.version, "--note", "by the board")
    outcome = run_job(workspace, "scoring_fit", config=_fit(AS_OF, "draft", "next week's fit"), quiet=True)
    assert outcome.success, outcome.errors
    later = stored_cards(workspace)[-1]
    assert later.document["parent"] == tuned.version
    assert held(later.document) == ({7}, True)
    dry = scoring(workspace, "weights", "tune", "--unpin", "industry/retail", "--dry-run").output
    assert "Nothing was stored" in dry
    assert stored_cards(workspace)[-1].version == later.version

    scoring(workspace, "weights", "rollback", "--note", "end of the test")
    refresh(workspace, AS_OF)


def _fit(as_of: str, mode: str, note: str) -> dict[str, Any]:
    return {
        "scoring_settings": {"as_of": as_of},
        "raw_tables": {"full": False},
        "fitted_scorecard": {"mode": mode, "note": note},
    }


def test_shadow__scores_beside_the_active_one_and_decides_nothing(
    workspace: Workspace, refresh: Callable[..., Any]
) -> None:
    before = scored(workspace)
    scoring(workspace, "weights", "tune", "--set", "employees/< 10=25", "--note", "small is beautiful")
    version = stored_cards(workspace)[-1].version
    scoring(workspace, "weights", "shadow", version, "--note", "let us watch it for a month")
    refresh(workspace, AS_OF)
    pd.testing.assert_frame_equal(scored(workspace), before)
    with open_marts(workspace) as con:
        found = rows(
            con, "select scorecard_version, count(*) as n from score_versions_compared group by all order by all"
        )
        differing = rows(
            con,
            """
            select count(*) as n from score_versions_compared as shadow
            join score_contributions as c using (account_id)
            where shadow.scorecard_version = ? and c.criterion = 'employees'
                and (shadow.points_difference <> 0) <> (c.band = '< 10')
            """,
            [version],
        )
    count = int((before["state"] == "scored").sum())
    assert [(row["scorecard_version"], row["n"]) for row in found] == [("v1", count), (version, count)]
    assert differing == [{"n": 0}]
    scoring(workspace, "weights", "retire", version, "--note", "no better")
    assert find_card(workspace, version).state == "retired"
    assert (
        "activate another one instead" in scoring(workspace, "weights", "retire", "v1", "--note", "x", expect=1).output
    )


def test_automatic_fit__replaces_the_card_only_by_the_figures(workspace: Workspace) -> None:
    """As of the end the first card is 120 days old: the deals that closed since judge it and its challenger."""
    champion = active_card(workspace)
    assert champion is not None
    outcome = run_job(workspace, "scoring_fit", config=_fit(AS_OF, "automatic", "weekly"), quiet=True)
    assert outcome.success, outcome.errors
    challenger = stored_cards(workspace)[-1]
    assert challenger.document["note"] == "weekly"
    if challenger.state == "active":
        decided = decisions(workspace)[-1]
        assert (decided.version, decided.state) == (challenger.version, "active")
        assert "not worse" in decided.note
        assert find_card(workspace, champion.version).state == "retired"
        # Right after it no deal has closed that the new card has not seen.
        again = run_job(workspace, "scoring_fit", config=_fit(AS_OF, "automatic", "weekly"), quiet=True)
        assert again.success, again.errors
        assert stored_cards(workspace)[-1].state == "draft"
        assert active_card(workspace).version == challenger.version  # type: ignore[union-attr]
    else:
        assert challenger.state == "draft"
        assert active_card(workspace).version == champion.version  # type: ignore[union-attr]


def test_explain_at__is_what_a_refresh_of_that_moment_says_and_points_fade_where_nothing_happens(
    workspace: Workspace,
) -> None:
    from orchestration.lib.score_replay import NOT_TOLD, score_at
    from orchestration.lib.scorecard_settings import settings_of
    from orchestration.lib.warehouse import writer_lock

    now = datetime.combine(DEMO_END, datetime.min.time())
    with open_marts(workspace) as con:
        (published,) = rows(con, "select * from scored_accounts where state = 'scored' order by rank limit 1")
        account = published["account_id"]
        contributions = rows(
            con,
            "select * from score_contributions where account_id = ? order by kind, abs(points) desc, criterion",
            [account],
        )
    before = marts_of(workspace)
    with writer_lock(workspace):
        today, later = score_at(workspace, settings_of(workspace), account, [now, now + timedelta(days=400)], say=print)
    assert today.account == {name: value for name, value in published.items() if name not in NOT_TOLD}
    assert today.contributions == contributions
    assert sum(row["points"] for row in later.contributions) == later.account["total_points"]
    assert later.account["engagement_points"] < today.account["engagement_points"]
    assert later.account["fit_points"] == today.account["fit_points"]
    assert marts_of(workspace) == before


def test_half_life__asks_the_deals_and_stores_nothing(workspace: Workspace) -> None:
    versions = len(stored_cards(workspace))
    text = scoring(workspace, "weights", "half-life", "pricing_page_views", "--days", "7,30,none").output
    assert "30 days (now)" in text
    assert "no decay" in text
    chances = [
        int(line.split()[-2]) for line in text.splitlines() if line.strip().endswith("%") and "chance" not in line
    ]
    assert sum(chances) in range(99, 102)
    assert len(stored_cards(workspace)) == versions
    wrong = scoring(workspace, "weights", "half-life", "employees", expect=1).output
    assert "only counts of behaviour decay (value: explicit, count)" in wrong


def test_export_and_import__move_a_version_whole_or_as_a_table(workspace: Workspace, tmp_path: Path) -> None:
    whole = tmp_path / "card.json"
    scoring(workspace, "weights", "export", "v1", str(whole))
    scoring(workspace, "weights", "import", str(whole), "--note", "from the other office")
    copy = stored_cards(workspace)[-1]
    assert copy.document["card"] == find_card(workspace, "v1").document["card"]
    assert copy.document["imported_from"] == {"file": "card.json", "scorecard_version": "v1"}

    table = tmp_path / "card.csv"
    scoring(workspace, "weights", "export", "v1", str(table))
    lines = list(csv.reader(io.StringIO(table.read_text("utf-8-sig"))))
    at = {name: place for place, name in enumerate(lines[0])}
    (line,) = [x for x in lines if x[at["criterion"]] == "account_type" and x[at["band"]] == "sole_trader"]
    line[at["points"]] = "-33"
    with table.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file, delimiter=";").writerows(lines)
    text = scoring(
        workspace, "weights", "import", str(table), "--base", "v1", "--note", "edited in a spreadsheet"
    ).output
    assert "1 row differs" in text
    edited = stored_cards(workspace)[-1].document["card"]["bands"]
    assert [b["points"] for b in edited if b["band"] == "sole_trader"] == [-33]

    broken = tmp_path / "broken.json"
    broken.write_text(json.dumps({"export_format": "something else"}))
    assert (
        "export_format must be" in scoring(workspace, "weights", "import", str(broken), "--note", "x", expect=1).output
    )


def test_weights__say_what_is_wrong_with_a_request(workspace: Workspace) -> None:
    def error(*arguments: str, expect: int = 1) -> str:
        return scoring(workspace, "weights", *arguments, expect=expect).output

    assert "did you mean 'industry'?" in error("tune", "--set", "industri/software=1", "--note", "n")
    assert "no band of this name" in error("tune", "--set", "industry/softwear=1", "--note", "n")
    assert "whole points" in error("tune", "--set", "industry/software=1.5", "--note", "n")
    assert "between -1000 and 1000" in error("tune", "--set", "industry/software=5000", "--note", "n")
    assert "positive, negative or free" in error("tune", "--sign", "industry=up", "--note", "n")
    assert "nothing to change" in error("tune", "--note", "n")
    assert "--note is required" in error("tune", "--set", "industry/software=1", expect=2)
    assert "is not pinned" in error("tune", "--unpin", "industry/software", "--note", "n")
    assert "'v99' does not exist" in error("activate", "v99", "--note", "n")
    assert "needs a note" in error("activate", "v1", "--note", " ")


def test_list_show_diff__tell_the_story_of_the_versions(workspace: Workspace) -> None:
    text = scoring(workspace, "weights", "list").output
    for card in stored_cards(workspace):
        assert card.version in text
    assert "the first card: there is none to compare it with" in text
    shown = scoring(workspace, "weights", "show", "v1").output
    assert "made" in shown
    assert "public administration" in shown
    other = next(card.version for card in stored_cards(workspace) if card.document["note"] == "a wish")
    assert "1 row differs" in scoring(workspace, "weights", "diff", "v1", other).output
