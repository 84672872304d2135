"""`scoring weights`: the versions of the scorecard, for those who tune them. The work is in `orchestration.lib.versions`."""

from __future__ import annotations

import csv
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich.markup import escape

from orchestration.cli import screens
from orchestration.lib.errors import UserError
from orchestration.lib.job_runner import prepare_process
from orchestration.lib.scorecard_settings import settings_of
from orchestration.lib.version_texts import edited_sentences, own_figures
from orchestration.lib.wording import differing
from orchestration.lib.workspace import Workspace

if TYPE_CHECKING:
    from ml.card import Card, CardBand
    from orchestration.lib.card_store import StoredCard
    from orchestration.lib.preview import Preview
    from orchestration.lib.versions import Change, Tuned

_note = click.option("--note", required=True, help="The reason; it stays with the version for good.")
#: A check found something to look at.
EXIT_FOUND = 3
#: How long a command waits for a refresh that is under way.
WAIT_SECONDS = 600


@click.group()
def weights() -> None:
    """List, show, compare, tune and activate the versions of the scorecard.

    A version is never changed: whatever is tuned becomes a new draft, and a draft scores nothing until it is activated.
    Nothing here changes a published score by itself; an activation takes effect at the next refresh.
    """


@weights.command("list")
@click.pass_obj
def list_versions(workspace: Workspace) -> None:
    """List all versions, and who decided what on them and why."""
    from orchestration.lib.card_store import decisions, stored_cards

    out = screens.console()
    cards = stored_cards(workspace.require())
    if not cards:
        out.print("No scorecard version yet: the first refresh with accounts makes one.")
        return
    result = screens.table(
        "Versions", "version", "state", "made", "by", "from", ">deals", ">won", ">AUC later", ">log loss later", "note",
    )  # fmt: skip
    for card in cards:
        its = card.document["card"]
        figures = own_figures(its.get("evaluation", {}))
        result.add_row(
            card.version, card.state, card.document["created_at"][:16].replace("T", " "), escape(card.document["author"]),
            card.document.get("parent") or "", f"{its['deal_count']:,}", f"{its['won_count']:,}",
            screens.figure(figures.get("auc"), 2), screens.figure(figures.get("log_loss"), 3),
            escape(card.document["note"]),
        )  # fmt: skip
    out.print(result)
    taken = decisions(workspace)
    if taken:
        result = screens.table("Decisions", "at (UTC)", "version", "became", "by", "why")
        for decision in taken:
            back = f" (back from {decision.rollback_of})" if decision.rollback_of else ""
            result.add_row(
                f"{decision.at:%Y-%m-%d %H:%M}", decision.version, decision.state + back, escape(decision.author),
                escape(decision.note),
            )  # fmt: skip
        out.print(result)


@weights.command()
@click.argument("version", required=False)
@click.pass_obj
def show(workspace: Workspace, version: str | None) -> None:
    """Show every row of a version with its evidence. Default: the active one."""
    from orchestration.lib.versions import base_version, card_of

    stored = base_version(workspace.require(), version)
    card = card_of(stored)
    out = screens.console()
    _print_head(out, stored, card)
    with_segments = any(band.segment for band in card.bands)
    columns = ["criterion", "band", ">points", ">experts", ">90 % interval", "evidence"]
    result = screens.table(f"Scorecard {stored.version}", *(["segment"] if with_segments else []), *columns)
    last = ""
    for band in card.bands:
        name = f"{band.segment}/{band.criterion}"
        if last and name != last:
            result.add_section()
        label = band.criterion.replace("_", " ") if name != last else ""
        last = name
        low, high = (screens.signed(points) for points in _interval_points(band))
        result.add_row(
            *([escape(band.segment or "everybody")] if with_segments else []), escape(label), escape(band.band),
            screens.signed(band.points) + ("*" if band.is_pinned else ""), screens.signed(band.expert_points),
            f"{low} to {high}", escape(band.evidence),
        )  # fmt: skip
    out.print(result)
    if any(band.is_pinned for band in card.bands):
        out.print("* held by choice")


def _print_head(out: Any, stored: StoredCard, card: Card) -> None:
    document = stored.document
    out.print(
        f"[bold]Scorecard {stored.version}[/bold], {stored.state}; made {document['created_at'][:16].replace('T', ' ')} by "
        f"{escape(document['author'])}" + (f" from {document['parent']}" if document.get("parent") else "")
    )
    out.print(f"  {escape(document['note'])}")
    for sentence in card.verdict:
        out.print(f"  {escape(sentence)}")
    for sentence in edited_sentences(card.evaluation):
        out.print(f"  {escape(sentence)}")
    if card.choices:
        pins = [f"{p.criterion}/{p.band} = {p.points:+d}" for p in card.choices.pins]
        signs = [f"{name} {sign}" for name, sign in card.choices.signs.items()]
        locks = [f"bands of {name}" for name in card.choices.locked_bands]
        out.print(f"  Held by choice: {escape(', '.join([*pins, *signs, *locks]))}")
    out.print()


def _interval_points(band: CardBand) -> tuple[int, int]:
    from ml.card import points_from_weights

    low, high = points_from_weights([band.weight_low, band.weight_high])
    return int(low), int(high)


@weights.command()
@click.argument("first")
@click.argument("second")
@click.pass_obj
def diff(workspace: Workspace, first: str, second: str) -> None:
    """Show the rows, choices and figures in which two versions differ."""
    from orchestration.lib.card_store import find_card
    from orchestration.lib.versions import card_of, differing_rows

    out = screens.console()
    stored = [find_card(workspace.require(), name) for name in (first, second)]
    cards = [card_of(s) for s in stored]
    for s, card in zip(stored, cards, strict=True):
        _print_head(out, s, card)
    rows = differing_rows(*cards)
    result = screens.table(
        differing(len(rows)), "segment", "criterion", "band", f">{first}", f">{second}", ">change",
    )  # fmt: skip
    for row in rows:
        change = screens.signed(row.after - row.before) if row.before is not None and row.after is not None else ""
        result.add_row(
            escape(row.segment), escape(row.criterion.replace("_", " ")), escape(row.band), screens.signed(row.before),
            screens.signed(row.after), change,
        )  # fmt: skip
    out.print(result if rows else "No row differs.")
    figures = screens.table("On the deals that closed later than each fit", "figure", f">{first}", f">{second}")
    evaluations = [own_figures(card.evaluation) for card in cards]
    for name in ("auc", "log_loss", "brier", "ece", "calibration_slope", "lift_20"):
        figures.add_row(name.replace("_", " "), *(screens.figure(e.get(name), 3) for e in evaluations))
    figures.add_row("deals of the fit", *(f"{card.deal_count:,}" for card in cards))
    out.print(figures)


# --------------------------------------------------------------------------- tuning


@weights.command()
@click.option("--from", "version", default=None, metavar="VERSION", help="What to start from. Default: the active one.")
@click.option("--set", "sets", multiple=True, metavar="CRITERION/BAND=POINTS", help="Points in the new version only.")
@click.option(
    "--pin", "pins", multiple=True, metavar="CRITERION/BAND[=POINTS]",
    help="Points that this and all later fits hold; the other weights are refitted round them.",
)  # fmt: skip
@click.option("--unpin", "unpins", multiple=True, metavar="CRITERION/BAND", help="Points that fits may move again.")
@click.option(
    "--sign", "signs", multiple=True, metavar="CRITERION=positive|negative|free",
    help="No known band of the criterion may go against this sign.",
)  # fmt: skip
@click.option("--lock", "locks", multiple=True, metavar="CRITERION", help="Keep the criterion's bands at later fits.")
@click.option("--unlock", "unlocks", multiple=True, metavar="CRITERION", help="Let later fits cut its bands anew.")
@click.option("--segment", default=None, help="Change the rows of this segment only. Default: of everybody.")
@click.option("--dry-run", is_flag=True, help="Show the price and store nothing.")
@click.option("--note", default="", help="The reason; required unless it is a dry run.")
@click.pass_obj
def tune(
    workspace: Workspace, version: str | None, sets: tuple[str, ...], pins: tuple[str, ...], unpins: tuple[str, ...],
    signs: tuple[str, ...], locks: tuple[str, ...], unlocks: tuple[str, ...], segment: str | None, dry_run: bool, note: str,
) -> None:  # fmt: skip
    """Make a new draft with points, pins, signs or bands of your choice, and show what that costs.

    With --set alone all other rows stay as they are. With --pin, --sign or --lock the rest is fitted again round your
    choice, and later fits hold it too. Example:

    scoring weights tune --pin "industry/software=15" --sign employees=positive --note "the market says so"
    """
    from orchestration.lib import versions
    from orchestration.lib.warehouse import open_warehouse, writer_lock

    if not dry_run and not note.strip():
        raise click.UsageError("--note is required: say why the version is made (or use --dry-run)")
    settings = settings_of(workspace.require())
    base = versions.base_version(workspace, version)
    card = versions.card_of(base)
    change = versions.read_change(
        card, sets=sets, pins=pins, unpins=unpins, signs=signs, locks=locks, unlocks=unlocks, segment=segment
    )
    if change.needs_refit:
        prepare_process(workspace)
        with (
            writer_lock(workspace, wait_seconds=WAIT_SECONDS, on_wait=_say),
            open_warehouse(workspace) as con,
        ):
            tuned = versions.refit(con, workspace, settings, base, change, note=note, dry_run=dry_run, say=_say)
    else:
        tuned = versions.set_points(workspace, settings, base, change.sets, note=note, dry_run=dry_run)
    _print_tuned(tuned, card, change)


def _print_tuned(tuned: Tuned, before: Card, change: Change | None) -> None:
    from orchestration.lib.versions import differing_rows

    out = screens.console()
    rows = differing_rows(before, tuned.card)
    result = screens.table(
        f"{tuned.version or 'The draft'} against {tuned.base}: {differing(len(rows))}",
        "segment", "criterion", "band", ">before", ">after", "held",
    )  # fmt: skip
    held = {(b.segment, b.criterion, b.band) for b in tuned.card.bands if b.is_pinned}
    for row in rows:
        result.add_row(
            escape(row.segment), escape(row.criterion.replace("_", " ")), escape(row.band), screens.signed(row.before),
            screens.signed(row.after), "yes" if (row.segment, row.criterion, row.band) in held else "",
        )  # fmt: skip
    out.print(result)
    out.print(price_sentence(tuned.price))
    if change is not None and change.sets and not change.needs_refit:
        out.print("Points that were set hold in this version only; to hold them at later fits, use --pin.")
    if tuned.version:
        out.print(f"Stored as draft {tuned.version}. Next: scoring weights preview {tuned.version}")
    else:
        out.print("Nothing was stored (dry run).")


def price_sentence(price: dict[str, Any]) -> str:
    """What a change costs, in words."""
    if not price or price.get("gain") is None:
        return f"Its price cannot be measured: {price.get('deal_count', 0)} deals with a score out of fold closed last."
    gain, (low, high) = price["gain"], price["gain_interval"]
    word = "better" if low > 0 else "worse" if high < 0 else "neither better nor worse beyond chance"
    return (
        f"On the {price['deal_count']:,} deals that closed last ({price['won_count']:,} won): log loss "
        f"{price['before']['log_loss']:.4f} -> {price['after']['log_loss']:.4f}, AUC {price['before']['auc']:.3f} -> "
        f"{price['after']['auc']:.3f}: {word} (log loss lower by {gain:+.4f}, 90 % interval {low:+.4f} to {high:+.4f})."
    )


# --------------------------------------------------------------------------- preview and decisions


@weights.command()
@click.argument("version")
@click.option("--by", "segment_by", default=None, metavar="CRITERION", help="Group accounts by its value as well.")
@click.option("--top", default=10, show_default=True, type=click.IntRange(0, 10_000), help="How many movers to show.")
@click.option("--format", "form", type=click.Choice(["table", "csv", "json"]), default="table", show_default=True)
@click.pass_obj
def preview(workspace: Workspace, version: str, segment_by: str | None, top: int, form: str) -> None:
    """Show what activating a version would change, before it does: row for row what the next refresh would publish.

    csv and json give every account with its points, cell and win probability before and after.
    """
    from orchestration.lib.card_store import find_card
    from orchestration.lib.preview import preview as make_preview
    from orchestration.lib.warehouse import writer_lock

    settings = settings_of(workspace.require())
    stored = find_card(workspace, version)
    by = segment_by or settings.segments.by
    if by is not None and by not in stored.document["criteria"]:
        known = ", ".join(stored.document["criteria"])
        raise UserError(f"--by: {version} scores no criterion of this name; it has: {known} (value: {by!r})")
    prepare_process(workspace)
    with writer_lock(workspace, wait_seconds=WAIT_SECONDS, on_wait=_say):
        found = make_preview(workspace, settings, stored, segment_by=by, say=_say)
    if form == "csv":
        found.accounts.to_csv(sys.stdout, index=False, quoting=csv.QUOTE_MINIMAL)
    elif form == "json":
        click.echo(found.accounts.to_json(orient="records", indent=1, force_ascii=False))
    else:
        _print_preview(found, by, top)


def _print_preview(found: Preview, by: str | None, top: int) -> None:
    from orchestration.lib import preview as its
    from orchestration.lib.training import FIT_SEED

    out = screens.console()
    moved = its.movers(found.accounts)
    scored = int(found.accounts["after_total_points"].notna().sum())
    out.print(
        f"[bold]{found.version} in place of {found.active_version}[/bold], as of {found.as_of_at:%Y-%m-%d %H:%M} UTC: "
        f"{len(moved):,} of {scored:,} scored accounts change cell"
    )
    cells = its.cell_moves(found.accounts)
    changing = cells[cells["from_cell"] != cells["to_cell"]].sort_values(
        "account_count", ascending=False, kind="stable"
    )
    if len(changing):
        result = screens.table("Moves between cells, the most frequent first", "from", "to", ">accounts")
        for row in changing.head(12).itertuples():
            result.add_row(str(row.from_cell), str(row.to_cell), f"{row.account_count:,}")
        out.print(result)
    if top and len(moved):
        result = screens.table(
            "Accounts that move most", "account", "owner", ">points", "cell", "next action", ">win probability"
        )
        for row in moved.head(top).itertuples():
            result.add_row(
                escape(str(row.account_name)), escape(_text(row.owner_id)),
                f"{_whole(row.before_total_points)} -> {_whole(row.after_total_points)}",
                f"{_text(row.before_cell)} -> {_text(row.after_cell)}",
                f"{_text(row.before_next_action)} -> {_text(row.after_next_action)}",
                f"{_percent(row.before_win_probability)} -> {_percent(row.after_win_probability)}",
            )  # fmt: skip
        out.print(result)
    first = its.best_action(found.accounts) or "the best action"
    for column, title in (("owner_id", "Per owner"), *((("segment", f"Per {by.replace('_', ' ')}"),) if by else ())):
        result = screens.table(
            title, column.removesuffix("_id"), ">accounts", ">change cell", f">enter {first}", f">leave {first}", ">mean change",
        )  # fmt: skip
        for group in its.by_group(found.accounts, column)[:15]:
            result.add_row(
                escape(group["name"]), f"{group['account_count']:,}", f"{group['moved_count']:,}", f"{group['entered_count']:,}",
                f"{group['left_count']:,}", f"{group['mean_change_points']:+z.1f}",
            )  # fmt: skip
        out.print(result)
    captured = its.wins_captured(found.deals)
    if captured:
        result = screens.table(
            "Wins among the best past deals, each scored by a fit that had not seen it", ">capacity", ">deals",
            f">wins by {found.active_version}", f">wins by {found.version}", ">difference",
        )  # fmt: skip
        for share in captured:
            change = share["after_won_count"] - share["before_won_count"]
            result.add_row(
                f"{share['capacity_pct']} %", f"{share['deal_count']:,}", f"{share['before_won_count']:,.1f}",
                f"{share['after_won_count']:,.1f}", f"{change:+,.1f}",
            )  # fmt: skip
        out.print(result)
    loss = its.loss_change(found.deals, seed=FIT_SEED)
    if loss["before"] is None:
        out.print(f"Past deals cannot tell: {loss['deal_count']:,} closed, {loss['won_count']:,} of them won.")
        return
    low, high = loss["gain_interval"]
    word = "better" if low > 0 else "worse" if high < 0 else "no difference beyond chance"
    out.print(
        f"On {loss['deal_count']:,} closed deals: log loss {loss['before']['log_loss']:.4f} -> {loss['after']['log_loss']:.4f}, "
        f"AUC {loss['before']['auc']:.3f} -> {loss['after']['auc']:.3f}: {word} (90 % interval of the gain {low:+.4f} to {high:+.4f})"
    )


def _text(value: Any) -> str:
    return "-" if value is None or value != value else str(value)


def _whole(value: Any) -> str:
    return "-" if value is None or value != value else f"{int(value)}"


def _percent(value: Any) -> str:
    return "-" if value is None or value != value else screens.percent(float(value))


#: Command -> (the state that it decides on, its help).
_DECISIONS = {
    "activate": ("active", "Score with this version from the next refresh on; the one before is retired."),
    "shadow": (
        "shadow",
        "Score with this version beside the active one, in score_versions_compared, without deciding anything.",
    ),
    "retire": (
        "retired",
        "Take a draft or a shadow out of use. The active one cannot be retired: activate another one instead.",
    ),
}


def _decision(name: str, state: str, text: str) -> click.Command:
    @click.command(name, help=text)
    @click.argument("version")
    @_note
    @click.pass_obj
    def command(workspace: Workspace, version: str, note: str) -> None:
        from orchestration.lib.versions import decide

        decide(workspace.require(), version, state, note=note)
        click.echo(f"{version} is {state} from the next refresh on: scoring refresh")

    return command


for _command in [_decision(name, *said) for name, said in _DECISIONS.items()]:
    weights.add_command(_command)


@weights.command()
@_note
@click.pass_obj
def rollback(workspace: Workspace, note: str) -> None:
    """Bring back the version that was active before."""
    from orchestration.lib.versions import rollback as take_back

    taken_back, again = take_back(workspace.require(), note=note)
    click.echo(f"{taken_back} is retired, {again} is active from the next refresh on: scoring refresh")


@weights.command("check-leaks")
@click.argument("version", required=False)
@click.option(
    "--until", default=None, metavar="MOMENT", help="Take away what came later (ISO, UTC). Default: the newest fifth of deals.",
)  # fmt: skip
@click.pass_obj
def check_leaks(workspace: Workspace, version: str | None, until: str | None) -> None:
    """Compute the training features again without what came later, and name the criteria that change. Default: the active version.

    Changes nothing. What the fit itself found stands on the model card. Exit status 3 when a criterion changes.
    """
    from orchestration.lib.leak_replay import replay_features
    from orchestration.lib.versions import base_version, card_of
    from orchestration.lib.warehouse import writer_lock

    settings = settings_of(workspace.require())
    stored = base_version(workspace, version)
    card = card_of(stored)
    moment = None
    if until is not None:
        from orchestration.lib.moments import parse_moment

        moment = parse_moment(until)
    prepare_process(workspace)
    with writer_lock(workspace, wait_seconds=WAIT_SECONDS, on_wait=_say):
        replay = replay_features(workspace, settings, stored.document["criteria"], until=moment, say=_say)
    from ml.leaks import changed_since

    out = screens.console()
    found = changed_since(card.band_numbers(replay.then), card.band_numbers(replay.now))
    out.print(
        f"{len(replay.then):,} deals opened until {replay.until:%Y-%m-%d %H:%M} UTC, {len(stored.document['criteria'])} criteria of "
        f"{stored.version}, seen without and with what came later:"
    )
    for leak in found:
        out.print(f"  {escape(leak.evidence)}")
    differing = int((replay.then.ne(replay.now) & ~(replay.then.isna() & replay.now.isna())).to_numpy().sum())
    if not found:
        out.print(f"  No criterion changes beyond chance ({differing:,} single values differ).")
        return
    sys.exit(EXIT_FOUND)


@weights.command("half-life")
@click.argument("criterion")
@click.option(
    "--days",
    default=None,
    metavar="3,7,30,none",
    help="Half-lives to compare. Default: 3, 7, 14, 30, 60, 90, 180, 365 and none.",
)
@click.pass_obj
def half_life(workspace: Workspace, criterion: str, days: str | None) -> None:
    """Ask the closed deals how fast a behaviour fades: the chance of each half-life. Changes nothing."""
    from orchestration.lib.half_life import DAYS, fit_half_life
    from orchestration.lib.versions import base_version
    from orchestration.lib.warehouse import writer_lock

    asked = DAYS if days is None else tuple(_half_life_days(part) for part in days.split(","))
    prepare_process(workspace.require())
    settings = settings_of(workspace)
    with writer_lock(workspace):
        found = fit_half_life(workspace, settings, base_version(workspace, None), criterion, days=asked, say=_say)
    out = screens.console()
    out.print(f"[bold]{escape(criterion.replace('_', ' '))}[/bold]")
    table = screens.table("", "half-life", ">chance")
    current = settings.criteria[criterion].half_life_days or 0
    for tried, chance in zip(found.days, found.chance, strict=True):
        table.add_row(_days_text(tried) + (" (now)" if tried == current else ""), screens.percent(float(chance)))
    out.print(table)
    low, high = (_days_text(end) for end in found.interval)
    deals = f"{found.deal_count:,} closed deals, {found.won_count:,} won"
    if not found.says_something:
        out.print(f"The deals do not say: none of these half-lives can be left out ({deals}).")
    elif low == high:
        out.print(f"{low} has a chance of 90 % or more among those tried ({deals}).")
    else:
        out.print(f"Most likely {_days_text(found.best)}; with a chance of 90 % between {low} and {high} ({deals}).")
    out.print(f"To use it: half_life_days of {criterion} in scorecard.yml, then scoring fit.")


def _half_life_days(text: str) -> int:
    if text.strip().lower() == "none":
        return 0
    if not text.strip().isdigit() or not 1 <= int(text) <= 3650:
        raise UserError(f"--days: a half-life is 1 to 3650 days or none (value: {text.strip()!r})")
    return int(text)


def _days_text(days: int) -> str:
    return f"{days} day{'s' if days > 1 else ''}" if days else "no decay"


# --------------------------------------------------------------------------- files


@weights.command("export")
@click.argument("version")
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
@click.pass_obj
def export_file(workspace: Workspace, version: str, file: Path) -> None:
    """Write a version as .json (whole, for another workspace) or .csv (its points, for a spreadsheet)."""
    from orchestration.lib.card_store import find_card
    from orchestration.lib.versions import export_version

    export_version(find_card(workspace.require(), version), file)
    click.echo(f"{version} written to {file}")


@weights.command("import")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--base", default=None, metavar="VERSION", help="What a .csv changes. Default: the active version.")
@_note
@click.pass_obj
def import_file(workspace: Workspace, file: Path, base: str | None, note: str) -> None:
    """Land an exported version as a new draft: a whole one (.json), or points that you edited (.csv)."""
    from orchestration.lib.versions import base_version, card_of, import_version

    settings = settings_of(workspace.require())
    is_table = file.suffix.lower() == ".csv"
    stored = base_version(workspace, base) if is_table else None
    tuned = import_version(workspace, settings, file, base=stored, note=note)
    if stored is not None:
        _print_tuned(tuned, card_of(stored), None)
    else:
        click.echo(f"Stored as draft {tuned.version}. Next: scoring weights preview {tuned.version}")


@weights.command()
@click.argument("version", required=False)
@click.option(
    "--output", type=click.Path(dir_okay=False, path_type=Path), default=None, help="Default: scorecard-VERSION.html"
)
@click.pass_obj
def card(workspace: Workspace, version: str | None, output: Path | None) -> None:
    """Write a version's model card: a page with its data, figures, plots, limits and who activated it. Default: the active one."""
    from orchestration.lib.card_store import stored_cards
    from orchestration.lib.model_card import write_model_card
    from orchestration.lib.versions import base_version

    stored = base_version(workspace.require(), version)
    path = write_model_card(
        stored, history=stored_cards(workspace), path=output or Path(f"scorecard-{stored.version}.html")
    )
    click.echo(f"Model card of {stored.version}: {path}")


def _say(text: str) -> None:
    click.echo(text, err=True)
