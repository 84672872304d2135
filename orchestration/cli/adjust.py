"""`scoring adjust`: points by a person's word, landed like any other record."""

from __future__ import annotations

import csv
import io
import uuid
from datetime import UTC, datetime

import click

from orchestration.lib.errors import UserError
from orchestration.lib.landing import landing_file
from orchestration.lib.marts_reader import find_account, open_marts
from orchestration.lib.training import author
from orchestration.lib.workspace import Workspace


@click.command()
@click.argument("account")
@click.argument("operation", type=click.Choice(["add", "subtract", "set"]))
@click.argument("points", type=click.IntRange(0, 100_000))
@click.option("--note", required=True, help="The reason; everybody who asks for the account's points will read it.")
@click.option("--expires", default=None, type=click.DateTime(), help="When it stops to count (UTC). Default: never.")
@click.pass_obj
def adjust(
    workspace: Workspace, account: str, operation: str, points: int, note: str, expires: datetime | None
) -> None:
    """Add, subtract or set points of an account. Takes effect at the next refresh."""
    if not note.strip():
        raise UserError("an adjustment needs a note that says why")
    with open_marts(workspace.require()) as con:
        found = find_account(con, account)
    now = datetime.now(UTC).replace(tzinfo=None)
    record = {
        "adjustment_id": uuid.uuid4().hex,
        "account_id": found["account_id"],
        "operation": operation,
        "points": points,
        "note": note.strip(),
        "author": author(),
        "occurred_at": now.isoformat(),
        "expires_at": expires.isoformat() if expires else "",
    }
    text = io.StringIO()
    writer = csv.DictWriter(text, record)
    writer.writeheader()
    writer.writerow(record)
    with landing_file(workspace, "scoring__adjustments", f"{record['adjustment_id']}.csv") as path:
        path.write_text(text.getvalue(), encoding="utf-8")
    click.echo(f"{found['account_name']}: {operation} {points} from the next refresh on")
