"""The page for the revenue meeting and the charts, of made-up marts: figures of which the answer is known by hand."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import date, datetime
from html import unescape
from pathlib import Path
from typing import Any

import duckdb
import pytest

from orchestration.lib import forecast_marts
from orchestration.lib.errors import UserError
from orchestration.lib.forecast_plots import amount_text, draw_forecast
from orchestration.lib.forecast_report import _compared, report, write_chart, write_report, write_waterfall
from orchestration.lib.page_plots import ON_PAPER
from orchestration.lib.pages import TEMPLATES
from orchestration.lib.pipeline_changes import Chosen, waterfall
from orchestration.lib.pipeline_plots import MOST_GROUPS, draw_changes, groups_drawn

AS_OF = datetime(2026, 8, 20, 6)
TABLES = {
    "forecast_snapshots": "forecast_id varchar, forecast_as_of_at timestamp, is_newest boolean, calibrated_on bigint, lacking varchar, "
    "method varchar, dimension varchar, label varchar, period_type varchar, period_start date, period_end date, period_label varchar, "
    "part varchar, mean_amount decimal(18, 2), p02_5 decimal(18, 2), p10 decimal(18, 2), p25 decimal(18, 2), p50 decimal(18, 2), "
    "p75 decimal(18, 2), p90 decimal(18, 2), p97_5 decimal(18, 2)",
    "forecast_backtest": "origin_at timestamp, horizon_days bigint, dimension varchar, label varchar, method varchar, "
    "point_amount decimal(18, 2), actual_amount decimal(18, 2), p10 decimal(18, 2), p90 decimal(18, 2), p97_5 decimal(18, 2), "
    "absolute_error_amount decimal(18, 2), pinball_amount decimal(18, 2), is_within_50 boolean, is_within_80 boolean, is_within_95 boolean",
    "targets": "owner_id varchar, owner_name varchar, team varchar, period_type varchar, period_start date, period_label varchar, "
    "target_amount decimal(18, 2), gap_amount decimal(18, 2), target_source varchar, target_author varchar, target_note varchar",
    "forecast_submissions": "kind varchar, period_type varchar, period_start date, period_label varchar, dimension varchar, "
    "label varchar, label_name varchar, amount decimal(18, 2), submitted_amount decimal(18, 2), currency varchar, status varchar, author varchar, note varchar, recorded_at timestamp, "
    "expires_at timestamp",
    "forecast_comparison": "period_type varchar, period_start date, dimension varchar, label varchar, "
    "forecast_low_amount decimal(18, 2), forecast_amount decimal(18, 2), forecast_high_amount decimal(18, 2)",
    "forecast_accuracy": "forecast_id varchar, method varchar, dimension varchar, label varchar, period_type varchar, "
    "period_start date, period_label varchar, standing_horizon_days bigint, forecast_amount decimal(18, 2), error_amount decimal(18, 2), "
    "actual_amount decimal(18, 2), is_closest boolean",
    "pipeline_changes": "comparison varchar, start_at timestamp, end_at timestamp, opportunity_id varchar, side varchar, bucket varchar, "
    "owner_id varchar, owner_name varchar, team varchar, region varchar, segment varchar, product varchar, close_month date, "
    "start_count bigint, end_count bigint, start_amount decimal(18, 2), change_amount decimal(18, 2), end_amount decimal(18, 2), "
    "won_amount decimal(18, 2)",
    "deal_risks": "opportunity_id varchar, opportunity_name varchar, risk varchar, found_value bigint, limit_value bigint, unit varchar, "
    "account_name varchar, owner_name varchar, amount decimal(18, 2), effect varchar, deal_count_with bigint, win_rate_with double, "
    "win_rate_with_low double, win_rate_with_high double, deal_count_without bigint, win_rate_without double, "
    "win_rate_without_low double, win_rate_without_high double",
    "deal_forecasts": "opportunity_id varchar, won_this_quarter_probability double, win_probability double, slip_probability double",
}


def insert(con: duckdb.DuckDBPyConnection, table: str, **values: Any) -> None:
    names = ", ".join(values)
    con.execute(f"insert into marts.{table} ({names}) values ({', '.join('?' * len(values))})", list(values.values()))


def forecast_rows(con: duckdb.DuckDBPyConnection, dimension: str, label: str, middle: float, **beside: float) -> None:
    """A month and a quarter; quantiles lie at fixed shares of the median."""
    for kind, name, end in (("month", "2026-08", date(2026, 9, 1)), ("quarter", "2026-Q3", date(2026, 10, 1))):
        row = {
            "forecast_id": "f1", "forecast_as_of_at": AS_OF, "is_newest": True, "calibrated_on": 10, "lacking": "no account scores",
            "dimension": dimension, "label": label, "period_type": kind, "period_start": date(2026, 8 if kind == "month" else 7, 1),
            "period_end": end, "period_label": name,
        }  # fmt: skip
        shares = {"p02_5": 0.5, "p10": 0.8, "p25": 0.9, "p50": 1.0, "p75": 1.1, "p90": 1.2, "p97_5": 1.5}
        levels = {level: middle * share for level, share in shares.items()}
        insert(con, "forecast_snapshots", **row, method="forecast", part="total", mean_amount=middle, **levels)
        insert(con, "forecast_snapshots", **row, method="forecast", part="won", mean_amount=middle / 4)
        for method, amount in beside.items():
            insert(con, "forecast_snapshots", **row, method=method, part="total", mean_amount=amount)


@pytest.fixture
def marts() -> Iterator[duckdb.DuckDBPyConnection]:
    """Ten moments at 30 days, of which the 80 % interval held eight; two owners of one team; two open deals at risk."""
    con = duckdb.connect(":memory:")
    con.execute(
        "attach ':memory:' as published; use published; create schema marts; set search_path = 'published.marts'"
    )
    for table, columns in TABLES.items():
        con.execute(f"create table marts.{table} ({columns})")
    forecast_rows(
        con, "all", "all", 1_000_000, run_rate=900_000, stage_weighted=1_300_000, commit=700_000, best_case=1_100_000
    )
    forecast_rows(con, "team", "north", 1_000_000, run_rate=900_000)
    forecast_rows(con, "owner", "u1", 600_000, commit=400_000)
    forecast_rows(con, "owner", "u2", 350_000)
    forecast_rows(con, "region", "<b>DE</b>", 1_000_000)
    forecast_rows(con, "segment", "(none)", 1_000_000)
    for owner, name, amount in (("u1", "Ada", 800_000), ("u2", "Bo & Co", 300_000)):
        insert(
            con, "targets", owner_id=owner, owner_name=name, team="north", period_type="quarter", period_start=date(2026, 7, 1),
            period_label="2026-Q3", target_amount=amount, gap_amount=amount - 150_000, target_source="set",
            target_author="cfo" if owner == "u1" else None, target_note="two new regions" if owner == "u1" else None,
        )  # fmt: skip
        insert(
            con, "forecast_comparison", period_type="quarter", period_start=date(2026, 7, 1), dimension="owner", label=owner,
            forecast_low_amount=480_000, forecast_amount=600_000, forecast_high_amount=720_000,
        )  # fmt: skip
    for number in range(10):
        actual = 200 if number < 2 else 100
        row = {
            "origin_at": datetime(2025, 8 if number < 5 else 9, number + 1),
            "horizon_days": 30,
            "dimension": "all",
            "label": "all",
        }
        for method, point in (("forecast", 110), ("run_rate", 130), ("last_year", 100)):
            if method == "last_year" and number < 5:
                continue
            insert(
                con, "forecast_backtest", **row, method=method, point_amount=point, actual_amount=actual, p10=90, p90=120, p97_5=150,
                absolute_error_amount=abs(point - actual), pinball_amount=5, is_within_50=number >= 5, is_within_80=number >= 2,
                is_within_95=number >= 1,
            )  # fmt: skip
    start, end = datetime(2026, 8, 13, 6), AS_OF
    deals = [
        ("kept", "unchanged", 500, 500),
        ("grew", "up", 100, 140),
        ("came", "new", 0, 60),
        ("gone", "lost", 200, 0),
        ("sold", "won", 50, 0),
    ]
    for deal, bucket, first, last in deals:
        insert(
            con, "pipeline_changes", comparison="7_days", start_at=start, end_at=end, opportunity_id=deal, side="stayed", bucket=bucket,
            owner_id="u1", owner_name="Ada", team="north", region="DE", segment="x", product="p", close_month=date(2026, 8, 1),
            start_count=int(first > 0), end_count=int(last > 0), start_amount=first, change_amount=last - first, end_amount=last,
            won_amount=55 if bucket == "won" else 0,
        )  # fmt: skip
    rates = {
        "deal_count_with": 40, "win_rate_with": 0.1, "win_rate_with_low": 0.05, "win_rate_with_high": 0.2, "deal_count_without": 90,
        "win_rate_without": 0.4, "win_rate_without_low": 0.3, "win_rate_without_high": 0.5,
    }  # fmt: skip
    for deal, risk, effect in (
        ("kept", "stuck", "won less often"),
        ("kept", "overdue", "no difference shown"),
        ("came", "overdue", "no difference shown"),
    ):
        insert(
            con, "deal_risks", opportunity_id=deal, opportunity_name=f"Deal {deal}", risk=risk, found_value=45, limit_value=30, unit="days",
            account_name="<script>alert(1)</script>", owner_name="Ada", amount=500, effect=effect, **rates,
        )  # fmt: skip
    insert(
        con,
        "deal_forecasts",
        opportunity_id="kept",
        won_this_quarter_probability=0.25,
        win_probability=0.5,
        slip_probability=0.6,
    )
    yield con
    con.close()


def text_of(html: str) -> str:
    """What a reader sees: words without tags, style and drawings."""
    html = re.sub(r"<(style|svg).*?</\1>", " ", html, flags=re.DOTALL)
    return " ".join(unescape(re.sub(r"<[^>]+>", " ", html)).replace("\u00a0", " ").split())


def test_report__says_how_sure_and_how_often_such_a_range_held(
    marts: duckdb.DuckDBPyConnection, tmp_path: Path
) -> None:
    write_report(marts, tmp_path / "r.html", currency="EUR")
    said = text_of((tmp_path / "r.html").read_text())
    assert "2026-Q3: 80 % sure between 800 k and 1.20 m EUR; over the last 10 past moments that range held 80 %" in said
    assert "That agrees with what it says" in said
    assert "The target is 1.10 m: it lies in the upper half of the 80 % interval" in said
    assert "the median is 100 k short of it" in said
    # 600,000 + 350,000 against 1,000,000.
    assert "The owners' medians add up to 950 k, the median of all is 1.00 m" in said
    assert "Ada north 150,000 480,000 600,000 720,000 \u2013 \u2013 400,000 \u2013 800,000 \u2212200,000" in said
    assert (
        "all together 250,000 800,000 1,000,000 1,200,000 900,000 1,300,000 700,000 1,100,000 1,100,000 \u2212100,000"
        in said
    )
    assert "No deal has a segment or a product. Segments are named by forecast.segment_by" in said
    assert "start 4 850.00 new 1 +60.00 up 1 +40.00 won 1 \u221250.00 lost 1 \u2212200.00 end 3 700.00" in said
    assert "Won: 1 deal at 55," in said
    assert "The open pipeline from 2026-08-13 06:00 to 2026-08-20 06:00 UTC" in said
    assert "Stuck: 45 days, limit 30. Won 10 % with it, 40 % without. Overdue" in said
    assert "Deal came" not in said
    assert "No account scores." in said
    assert "calibrated on 10 past moments" in said


def test_report__says_what_people_say_beside_the_model_and_how_right_they_were(
    marts: duckdb.DuckDBPyConnection,
) -> None:
    quarter = {"period_type": "quarter", "period_start": date(2026, 7, 1), "period_label": "2026-Q3"}
    said = {"recorded_at": datetime(2026, 8, 1), "status": "in force", "author": "Ada"}
    insert(
        marts, "forecast_submissions", **quarter, **said, kind="commit", dimension="owner", label="u1", label_name="Ada",
        amount=650_000, note="<i>without Acme</i>",
    )  # fmt: skip
    insert(
        marts, "forecast_submissions", **quarter, **said, kind="override", dimension="all", label="all", label_name="all",
        amount=1_150_000, note="a deal that is not in the CRM", expires_at=datetime(2026, 9, 15),
    )  # fmt: skip
    insert(
        marts, "forecast_submissions", **quarter, **(said | {"status": "withdrawn"}), kind="commit", dimension="owner", label="u1",
        label_name="Ada", amount=1, note="a typo",
    )  # fmt: skip
    # Two quarters are over: of both the commit was off by 10 of 100, the model once by 20 and once by nothing. Once at 90 days.
    for number, model in enumerate((20, 0)):
        cell = {
            "forecast_id": f"o{number}", "dimension": "owner", "label": "u1", "period_type": "quarter",
            "period_start": date(2026, 1 + 3 * number, 1), "standing_horizon_days": 30, "actual_amount": 100,
        }  # fmt: skip
        for method, error in (("forecast", model), ("submitted_commit", -10)):
            insert(
                marts, "forecast_accuracy", **cell, method=method, forecast_amount=100 + error, error_amount=error, is_closest=abs(error) < 15
            )  # fmt: skip
    page = report(marts, currency="EUR")
    section = next(section for section in page.sections if section.key == "said")
    numbers, targets, records = section.tables
    assert [list(row) for row in numbers.rows] == [
        [
            "all\n", "override\nuntil 2026-09-15", "1,150,000", "\u2013", "\u2013\nnone is over yet",
            "a deal that is not in the CRM\nAda, 2026-08-01",
        ],
        [
            "Ada\nowner", "submitted commit\n", "650,000", "600,000\n480,000 to 720,000", "10\u00a0%\nmodel 10\u00a0%, 2 numbers",
            "<i>without Acme</i>\nAda, 2026-08-01",
        ],
    ]  # fmt: skip
    assert [list(row) for row in targets.rows] == [
        ["Ada\nnorth", "800,000", "650,000", "600,000", "set", "two new regions\ncfo"],
        ["Bo & Co\nnorth", "300,000", "150,000", "600,000", "set", "\u2013\n"],
    ]
    assert {tuple(row) for row in records.rows} == {
        ("the model\nby owner", "30", "2", "10\u00a0%", "10\u00a0%", "+10\u00a0%", "1"),
        ("submitted commit\nby owner", "30", "2", "10\u00a0%", "10\u00a0%", "\u221210\u00a0%", "2"),
    }
    assert "1 more of this period no longer count" in section.paragraphs[1]
    assert section.missing == ""
    empty = next(each for each in report(marts, currency="EUR", period="2026-08").sections if each.key == "said")
    assert "Nobody has said anything of 2026-08" in empty.missing
    assert "No target was set for 2026-08" in empty.missing


def test_report__needs_nothing_else_and_takes_no_markup_from_people(
    marts: duckdb.DuckDBPyConnection, tmp_path: Path
) -> None:
    file = tmp_path / "r.html"
    write_report(marts, file, currency="EUR")
    html = file.read_text()
    assert not re.findall(r"(?:src|href)=\"(?!#)", html)
    assert "url(" not in html.replace("url(#", "")
    assert "@import" not in html
    assert "<script" not in html
    assert "<b>DE" not in html
    assert "&lt;b&gt;DE&lt;/b&gt;" in html
    assert "Bo &amp; Co" in html
    drawings = re.findall(r"<svg.*?</svg>", html, flags=re.DOTALL)
    assert len(drawings) == 5
    for drawing in drawings:
        assert re.search(r"<desc[^>]*>.{20,}?</desc>", drawing)
        assert 'role="img"' in drawing
    ids = re.findall(r'\sid="([^"]+)"', html)
    assert len(ids) == len(set(ids))
    assert set(re.findall(r'(?:href="|url\()#([^")]+)', html)) <= set(ids)
    headings = re.findall(r"<thead><tr><th[^>]*>([^<]+)", html)
    assert headings[:4] == ["Period", "Team", "Owner", "Region"]
    first = file.read_bytes()
    write_report(marts, file, currency="EUR")
    assert file.read_bytes() == first


def test_report__of_a_range_that_held_too_seldom_says_so_and_of_an_untested_one_too(
    marts: duckdb.DuckDBPyConnection,
) -> None:
    marts.execute("update forecast_backtest set is_within_80 = false where day(origin_at) < 6")
    page = report(marts, currency="EUR", period="2026-08")
    assert page.tone == "poor"
    assert page.verdict.endswith("held 50\u00a0%")
    assert "too narrow" in page.sentences[1]
    assert "No target was set" in page.sentences[0]
    marts.execute("delete from forecast_backtest; delete from deal_risks; delete from pipeline_changes")
    page = report(marts, currency="EUR")
    assert "is not known" in page.verdict
    assert {section.key: bool(section.missing) for section in page.sections} == {
        "periods": False, "people": False, "groups": True, "said": True, "record": True, "changes": True, "risks": True, "lacking": False,
    }  # fmt: skip
    with pytest.raises(UserError, match="no period '2030-Q1': it has 2026-08, 2026-Q3"):
        report(marts, currency="EUR", period="2030-Q1")
    marts.execute("delete from forecast_snapshots")
    with pytest.raises(UserError, match="No forecast has been made"):
        report(marts, currency="EUR")


def test_errors__of_a_method_with_fewer_moments_are_beside_the_forecasts_on_the_same(
    marts: duckdb.DuckDBPyConnection,
) -> None:
    found = {row["method"]: row for row in forecast_marts.errors(marts)}
    # Two moments at 200 and eight at 100: (2 x 90 + 8 x 10) / 1200, and the last five alone.
    assert found["forecast"]["wape"] == pytest.approx(260 / 1200)
    assert (found["last_year"]["count"], found["last_year"]["wape"]) == (5, 0.0)
    assert found["last_year"]["own_wape"] == pytest.approx(0.1)


def test_coverage__has_the_binomial_interval(marts: duckdb.DuckDBPyConnection) -> None:
    found = {row["stated"]: row for row in forecast_marts.coverage(marts)}
    assert [found[stated]["held"] for stated in (0.5, 0.8, 0.95)] == [0.5, 0.8, 0.9]
    # Wilson's interval of 8 of 10 at 90 %, as in tables.
    assert (round(found[0.8]["low"], 3), round(found[0.8]["high"], 3)) == (0.541, 0.931)


@pytest.mark.parametrize("name", ["f.png", "f.svg", "f.html"])
def test_charts__are_the_same_bytes_each_time(marts: duckdb.DuckDBPyConnection, tmp_path: Path, name: str) -> None:
    steps = waterfall(marts, Chosen("7_days"))
    found = []
    for number in range(2):
        fan, fall = tmp_path / f"{number}{name}", tmp_path / f"w{number}{name}"
        if name.endswith(".html"):
            write_chart(marts, fan, currency="EUR")
            by = waterfall(marts, Chosen("7_days"), by="region")
            write_waterfall(steps, by, fall, by="region", start_at=AS_OF, end_at=AS_OF, currency="EUR", chosen="")
            assert "850 became 700 EUR: \u2212150" in text_of(fall.read_text())
        else:
            draw_forecast(marts, fan)
            draw_changes(steps, fall, title="Open pipeline")
        found.append((fan.read_bytes(), fall.read_bytes()))
    assert found[0] == found[1]
    if name.endswith(".svg"):
        assert b"the 80 % interval held 80 %" in found[0][0]
        assert b"lost -200 (1 deal)" in found[0][1]


def test_charts__of_many_groups_draw_the_largest() -> None:
    steps = [{"group": f"g{n}", "step": step, "amount": n, "deals": 1} for n in range(20) for step in ("start", "end")]
    assert groups_drawn(steps) == [f"g{n}" for n in range(19, 19 - MOST_GROUPS, -1)]


@pytest.mark.parametrize(
    ("amount", "text"),
    [
        (0, "0"),
        (999, "999"),
        (1500, "1.50 k"),
        (937_120, "937 k"),
        (-29_860, "-29.9 k"),
        (2_059_797, "2.06 m"),
        (12.3e9, "12.3 bn"),
    ],
)
def test_amounts__are_told_in_three_figures(amount: float, text: str) -> None:
    assert amount_text(amount) == text.replace(" ", "\u00a0")


def test_colours__on_paper_are_those_of_the_page_in_light() -> None:
    light = (TEMPLATES / "page_style.css").read_text().split("@media")[0]
    assert dict(re.findall(r"--plot-([a-z0-9-]+): (#[0-9a-f]{6})", light)) == ON_PAPER


def test_sums__take_the_target_of_the_same_days_and_not_of_the_same_name(marts: duckdb.DuckDBPyConnection) -> None:
    from orchestration.lib.forecast_marts import sums

    (quarter,) = [row for row in sums(marts) if row["period_type"] == "quarter"]
    assert quarter["target"] == 1_100_000
    # After another fiscal year was set, the quarter of these days has another name, and the name is another quarter's.
    marts.execute("update marts.targets set period_label = '2026-Q4'")
    insert(
        marts, "targets", owner_id="u1", owner_name="Ada", team="north", period_type="quarter", period_start=date(2025, 8, 1),
        period_label="2026-Q3", target_amount=5,
    )  # fmt: skip
    (quarter,) = [row for row in sums(marts) if row["period_type"] == "quarter"]
    assert quarter["target"] == 1_100_000


def test_sums__have_a_row_for_who_has_a_target_and_is_in_no_forecast(marts: duckdb.DuckDBPyConnection) -> None:
    for period_type, start, label in (
        ("quarter", date(2026, 7, 1), "2026-Q3"),
        ("quarter", date(2027, 7, 1), "2027-Q3"),
    ):
        insert(
            marts, "targets", owner_id="u9", owner_name="New", team="south", period_type=period_type, period_start=start,
            period_label=label, target_amount=500_000, gap_amount=500_000, target_source="set",
        )  # fmt: skip
    owners = forecast_marts.sums(marts, "owner", "2026-Q3")
    assert [(row["name"], row["target"], row["p50"]) for row in owners] == [
        ("Ada", 800_000, 600_000), ("Bo & Co", 300_000, 350_000), ("New", 500_000, None),
    ]  # fmt: skip
    assert [(row["name"], row["target"]) for row in forecast_marts.sums(marts, "team", "2026-Q3")] == [
        ("north", 1_100_000),
        ("south", 500_000),
    ]
    # The forecast has no third quarter of 2027.
    assert [row["period_label"] for row in forecast_marts.sums(marts)] == ["2026-08", "2026-Q3"]
    people = next(section for section in report(marts, currency="EUR").sections if section.key == "people")
    assert ["New\nsouth", *["\u2013"] * 8, "500,000", "\u2212500,000"] in [list(row) for row in people.tables[1].rows]


def test_report__of_a_number_without_an_exchange_rate_shows_what_was_said(marts: duckdb.DuckDBPyConnection) -> None:
    insert(
        marts, "forecast_submissions", period_type="quarter", period_start=date(2026, 7, 1), period_label="2026-Q3",
        recorded_at=datetime(2026, 8, 1), status="in force", author="Ada", kind="commit", dimension="all", label="all", label_name="all",
        note="why", submitted_amount=90_000, currency="CHF",
    )  # fmt: skip
    section = next(section for section in report(marts, currency="EUR").sections if section.key == "said")
    assert section.tables[0].rows[0][2] == "no rate\n90,000 CHF"


def test_draw_errors__says_so_where_nothing_was_won(tmp_path: Path) -> None:
    from matplotlib.figure import Figure

    from orchestration.lib.forecast_plots import draw_errors
    from orchestration.lib.page_plots import ON_PAPER

    figure = Figure()
    draw_errors(figure, [], ON_PAPER)
    assert [text.get_text() for axis in figure.axes for text in axis.texts] == ["nothing was won after these moments"]


@pytest.mark.parametrize(
    ("own", "other", "words"),
    [(0.154, 0.146, "as far as"), (0.11, 0.15, "nearer than"), (0.16, 0.15, "further off than")],
)
def test_compared__figures_that_read_the_same_are_not_set_against_each_other(
    own: float, other: float, words: str
) -> None:
    assert _compared(own, other) == words
