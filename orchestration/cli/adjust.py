"""`scoring adjust` and `adjustments`: points by a person's word, landed like any other record, and the ledger that they are in."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import click
from rich.markup import escape

from orchestration.cli import screens
from orchestration.cli.arguments import CommandWithNumbers
from orchestration.lib.ledger import find_operation, fold, land_adjustment, waiting_count
from orchestration.lib.marts_reader import find_account, find_contact, open_marts, rows
from orchestration.lib.moments import parse_moment
from orchestration.lib.training import author
from orchestration.lib.workspace import Workspace

OPERATIONS = ("add", "subtract", "set")
MOST_POINTS = 100_000


@click.command(cls=CommandWithNumbers, options_metavar="[ACCOUNT] add|subtract|set POINTS --note TEXT")
@click.argument("words", nargs=-1, required=True, metavar="")
@click.option("--contact", default=None, metavar="ID", help="Points of this contact instead of an account's.")
@click.option("--note", required=True, help="The reason; everybody who asks for the account's points will read it.")
@click.option("--title", default="", help="What it is called, for lists.")
@click.option("--expires", default=None, type=click.DateTime(), help="When it stops to count (UTC). Default: never.")
@click.pass_obj
def adjust(
    workspace: Workspace, words: tuple[str, ...], contact: str | None, note: str, title: str, expires: datetime | None
) -> None:
    """Add, subtract or set points of an account, or of a contact. Takes effect at the next refresh.

    The model's own points go on beside the balance: nothing is frozen. Example: scoring adjust ACME add 15 --note "met their
    board"
    """
    expected = 2 if contact is not None else 3
    if len(words) != expected:
        raise click.UsageError(
            "give an operation and points, as in: --contact 17 add 15"
            if contact is not None
            else "give an account, an operation and points, as in: ACME add 15"
        )
    operation, points = words[-2], _points(words[-1])
    if operation not in OPERATIONS:
        raise click.UsageError(f"the operation must be one of {', '.join(OPERATIONS)} (value: {operation!r})")
    with open_marts(workspace.require()) as con:
        subject = _contact(con, contact) if contact is not None else _account(con, words[0])
    key = land_adjustment(
        workspace,
        account_id=subject["account_id"],
        contact_id=subject["contact_id"],
        operation=operation,
        points=points,
        note=note,
        author=author(),
        title=title,
        expires_at=expires,
    )
    click.echo(f"{subject['name']}: {operation} {points} from the next refresh on (operation {key[:8]})")


class _ListsByDefault(click.Group):
    """`adjustments ACME` is `adjustments list ACME`."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if not args or (args[0] not in self.commands and args[0] not in ("-h", "--help")):
            args = ["list", *args]
        return super().parse_args(ctx, args)


@click.group(cls=_ListsByDefault)
def adjustments() -> None:
    """Show the ledger of an account, or take an operation back.

    `scoring adjustments ACME` is short for `scoring adjustments list ACME`.
    """


@adjustments.command("list")
@click.argument("account", required=False)
@click.option("--contact", default=None, metavar="ID", help="Of this contact instead of an account.")
@click.option("--at", default=None, metavar="MOMENT", help="The balance as it was at this ISO moment (UTC).")
@click.option("--top", default=50, show_default=True, type=click.IntRange(1), help="How many operations, newest first.")
@click.pass_obj
def list_operations(workspace: Workspace, account: str | None, contact: str | None, at: str | None, top: int) -> None:
    """Show operations with the balance after each: of one account or contact, or the newest of all."""
    out = screens.console()
    with open_marts(workspace.require()) as con:
        if account is None and contact is None:
            if at is not None:
                raise click.UsageError("--at needs an account or a contact")
            _show_newest(out, con, top)
            _say_waiting(out, waiting_count(con, workspace))
            return
        subject = _contact(con, contact) if contact is not None else _account(con, account or "")
        found = rows(
            con,
            "select * from score_ledger where contact_id = ? order by entry_no"
            if contact is not None
            else "select * from score_ledger where account_id = ? order by entry_no",
            [subject["contact_id"] if contact is not None else subject["account_id"]],
        )
        as_of_at = rows(con, "select as_of_at from publication")[0]["as_of_at"]
        waiting = waiting_count(con, workspace)
    if at is not None:
        as_of_at = parse_moment(at)
        then = {entry.ledger_id: entry for entry in fold(found, as_of_at)}
        found = [
            row
            | {
                "entry_status": then[row["ledger_id"]].status,
                "points_applied": then[row["ledger_id"]].points_applied,
                "balance_after": then[row["ledger_id"]].balance_after,
            }
            for row in found
            if row["ledger_id"] in then
        ]
    balance = found[-1]["balance_after"] if found else 0
    out.print(f"[bold]{escape(subject['name'])}[/bold]: balance {balance} as of {as_of_at:%Y-%m-%d %H:%M} UTC")
    if found:
        out.print(_table("Operations, the newest first", list(reversed(found))[:top]))
    _say_waiting(out, waiting)


def _say_waiting(out: Any, count: int) -> None:
    if count:
        verb = "operation waits" if count == 1 else "operations wait"
        out.print(f"{count:,} new {verb} for the next refresh, of all accounts and contacts: scoring refresh")


@adjustments.command()
@click.argument("operation_id", metavar="ID")
@click.option("--note", required=True, help="The reason; it stands in the history beside the operation.")
@click.pass_obj
def delete(workspace: Workspace, operation_id: str, note: str) -> None:
    """Take an operation back from the next refresh on. Its row stays in the history.

    ID is its key, or the beginning of it.
    """
    with open_marts(workspace.require()) as con:
        found = find_operation(con, operation_id)
    land_adjustment(
        workspace,
        account_id=found["account_id"],
        contact_id=found["contact_id"],
        operation="void",
        points=0,
        note=note,
        author=author(),
        title=found["title"] or "",
        void_of=found["ledger_id"],
    )
    click.echo(f"{found['operation']} {found['points']} ({found['note']}) no longer counts from the next refresh on")


def _show_newest(out: Any, con: Any, top: int) -> None:
    found = rows(
        con,
        "select ledger.*, coalesce(accounts.account_name, contacts.contact_name, ledger.account_id, ledger.contact_id) as name "
        "from score_ledger as ledger left join scored_accounts as accounts on ledger.account_id = accounts.account_id "
        "left join scored_contacts as contacts on ledger.contact_id = contacts.contact_id "
        "order by ledger.recorded_at desc, ledger.occurred_at desc, ledger.ledger_id limit ?",
        [top],
    )
    if not found:
        out.print("There are no adjustments yet. Make one with: scoring adjust ACCOUNT add 10 --note WHY")
        return
    out.print(_table("Newest operations", found))


def _table(title: str, found: list[dict[str, Any]]) -> Any:
    with_names = "name" in found[0]
    names = ["whose"] if with_names else []
    table = screens.table(
        title, "key", *names, "occurred", "operation", ">change", ">balance", "source", "note", "author", "status"
    )
    for row in found:
        operation = row["operation"] if row["operation"] == "void" else f"{row['operation']} {row['points']}"
        note = f"{row['title']}: {row['note']}" if row["title"] and row["title"] != row["note"] else row["note"]
        cells = [escape(row["name"])] if with_names else []
        status = row["entry_status"]
        if status == "counts" and row["expires_at"] is not None:
            status = f"until {row['expires_at']:%Y-%m-%d}"
        elif status == "void":
            status = f"takes back {row['void_of'][:8]}"
        table.add_row(
            row["ledger_id"][:8], *cells, f"{row['occurred_at']:%Y-%m-%d %H:%M}", operation,
            screens.signed(row["points_applied"]), str(row["balance_after"]), row["source"], escape(note),
            escape(row["author"]), status,
        )  # fmt: skip
    return table


def _account(con: Any, text: str) -> dict[str, Any]:
    found = find_account(con, text)
    return {"account_id": found["account_id"], "contact_id": None, "name": found["account_name"]}


def _contact(con: Any, contact_id: str) -> dict[str, Any]:
    found = find_contact(con, contact_id)
    return {"account_id": None, "contact_id": contact_id, "name": found["contact_name"] or contact_id}


def _points(text: str) -> int:
    if not text.isdecimal() or int(text) > MOST_POINTS:
        raise click.UsageError(f"points must be a whole number from 0 to {MOST_POINTS:,} (value: {text!r})")
    return int(text)
