"""Makes bank.csv of the bank marketing set: its rows in file order, with an account and a date each.

The set (Moro, Cortez, Rita 2014, CC BY 4.0) has an order but no dates and no keys: 41,188 phone contacts from May 2008 to
November 2010. Here every row becomes one account with one deal, opened in file order over those 30 months and closed a day
later.

    python prepare.py bank-additional-full.csv.gz bank.csv
"""

from __future__ import annotations

import csv
import gzip
import sys
from datetime import datetime, timedelta
from pathlib import Path

FIRST, LAST = datetime(2008, 5, 1), datetime(2010, 11, 1)


def prepare(source: Path, target: Path) -> int:
    """Write `target` from the gzipped set; returns the number of rows."""
    with gzip.open(source, "rt", encoding="utf-8", newline="") as file:
        header, *rows = csv.reader(file, delimiter=";")
    with target.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["contact_no", "opened_at", "closed_at", *(name.replace(".", "_") for name in header)])
        for number, row in enumerate(rows):
            opened = (FIRST + (LAST - FIRST) * number / len(rows)).replace(microsecond=0)
            # The file writes "unknown", and 999 days since a contact that never was: both mean missing.
            cells = [
                "" if c == "unknown" or (n == "pdays" and c == "999") else c for n, c in zip(header, row, strict=True)
            ]
            writer.writerow([f"R{number:05d}", opened, opened + timedelta(days=1), *cells])
    return len(rows)


if __name__ == "__main__":
    print(f"{prepare(Path(sys.argv[1]), Path(sys.argv[2])):,} rows written to {sys.argv[2]}")
