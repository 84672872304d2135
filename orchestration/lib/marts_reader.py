"""Reads the published marts the way any reader does: the file behind the link, read-only. Never the warehouse."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import duckdb

from orchestration.lib.errors import UserError
from orchestration.lib.workspace import Workspace


@contextmanager
def open_marts(workspace: Workspace) -> Iterator[duckdb.DuckDBPyConnection]:
    """A read-only connection to the current snapshot; it sees that snapshot until it is closed.

    Raises
    ------
    UserError
        Nothing has been published yet.
    """
    if not workspace.published.exists():
        raise UserError(f"{workspace.home} has no published marts yet: run scoring refresh")
    # The link is followed once, so that the snapshot cannot change between opening and reading.
    connection = duckdb.connect(str(workspace.published.resolve()), read_only=True)
    try:
        connection.execute("set schema = 'marts'")
        yield connection
    finally:
        connection.close()


def rows(
    connection: duckdb.DuckDBPyConnection, query: str, parameters: list[Any] | None = None
) -> list[dict[str, Any]]:
    """The rows of a query as dictionaries."""
    cursor = connection.execute(query, parameters or [])
    names = [column[0] for column in cursor.description or []]
    return [dict(zip(names, values, strict=True)) for values in cursor.fetchall()]


def find_account(connection: duckdb.DuckDBPyConnection, text: str) -> dict[str, Any]:
    """The account with this id or name.

    Raises
    ------
    UserError
        None fits, or several do; or the record was merged into another one or deleted.
    """
    if not text.strip():
        raise UserError("an account is given by its id or name, which are missing here")
    found = rows(
        connection,
        "select * from scored_accounts where account_id = ? or lower(account_name) = lower(?)",
        [text, text],
    )
    if not found:
        _refuse_gone(connection, "account", text)
        found = rows(
            connection,
            "select * from scored_accounts where contains(lower(account_name), lower(?)) order by account_name limit 11",
            [text],
        )
    if not found:
        raise UserError(f"no account has the id or name {text!r}")
    if len(found) > 1:
        names = ", ".join(f"{row['account_name']} ({row['account_id']})" for row in found[:10])
        raise UserError(
            f"{text!r} fits more than one account: {names}{', ...' if len(found) > 10 else ''}. Give the id"
        )
    return found[0]


def find_contact(connection: duckdb.DuckDBPyConnection, contact_id: str) -> dict[str, Any]:
    """The contact with this id.

    Raises
    ------
    UserError
        There is none.
    """
    found = rows(connection, "select * from scored_contacts where contact_id = ?", [contact_id])
    if not found:
        _refuse_gone(connection, "contact", contact_id)
        raise UserError(f"no contact has the id {contact_id!r}")
    return found[0]


def _refuse_gone(connection: duckdb.DuckDBPyConnection, kind: str, record_id: str) -> None:
    for gone in rows(
        connection,
        "select gone_records.*, scored_accounts.account_name from gone_records left join scored_accounts "
        "on record_kind = 'account' and surviving_id = account_id where record_kind = ? and record_id = ?",
        [kind, record_id],
    ):
        if gone["what_happened"] == "deleted":
            raise UserError(f"the {kind} {record_id!r} was deleted in the CRM")
        name = f" ({gone['account_name']})" if gone["account_name"] else ""
        raise UserError(
            f"the {kind} {record_id!r} was merged into {gone['surviving_id']!r}{name}, for which it counts. Give that id"
        )
