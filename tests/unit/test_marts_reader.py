"""Who is meant by an id or a name, and what is said where nobody is."""

from __future__ import annotations

import duckdb
import pytest

from orchestration.lib.errors import UserError
from orchestration.lib.marts_reader import find_account, find_contact


@pytest.fixture
def marts() -> duckdb.DuckDBPyConnection:
    con = duckdb.connect()
    con.execute(
        """
        create table scored_accounts as
        from (values ('A1', 'Acme'), ('A2', 'Acme North'), ('A3', 'Berg')) as accounts (account_id, account_name);
        create table scored_contacts as from (values ('C1')) as contacts (contact_id);
        create table gone_records as from (values
            ('account', 'A8', 'merged', 'A3'), ('account', 'A9', 'deleted', null), ('contact', 'C9', 'merged', 'C1')
        ) as gone (record_kind, record_id, what_happened, surviving_id)
        """
    )
    return con


@pytest.mark.parametrize(("text", "found"), [("A1", "A1"), ("acme", "A1"), ("north", "A2"), ("A3", "A3")])
def test_find_account__takes_the_id_the_name_or_a_part_that_only_one_has(marts, text, found):
    assert find_account(marts, text)["account_id"] == found


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("A7", "no account has the id or name 'A7'"),
        ("A8", "the account 'A8' was merged into 'A3' (Berg), for which it counts. Give that id"),
        ("A9", "the account 'A9' was deleted in the CRM"),
        ("C9", "no account has the id or name 'C9'"),
        ("cm", "'cm' fits more than one account: Acme (A1), Acme North (A2). Give the id"),
        (" ", "an account is given by its id or name, which are missing here"),
    ],
)
def test_find_account__says_what_became_of_the_record_or_who_may_be_meant(marts, text, said):
    with pytest.raises(UserError) as error:
        find_account(marts, text)
    assert str(error.value) == said


def test_find_contact__says_what_became_of_the_record(marts):
    assert find_contact(marts, "C1") == {"contact_id": "C1"}
    with pytest.raises(UserError, match="the contact 'C9' was merged into 'C1', for which it counts"):
        find_contact(marts, "C9")
    with pytest.raises(UserError, match="no contact has the id 'A8'"):
        find_contact(marts, "A8")
