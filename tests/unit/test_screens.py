"""What is printed stays readable on a narrow screen."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from orchestration.cli.screens import print_table

COLUMNS = [">target", ">median", ">run rate", ">manager"]
LINES = [
    ["2026-Q4", "1,898,900", "2,613,513", "2,163,764", "2,500,000"],
    ["2027-Q1", "1,701,500", "2,249,489", "2,200,440", ""],
]


@pytest.mark.parametrize(("width", "tables"), [(80, 1), (40, 2)])
def test_print_table__never_folds_a_number(width: int, tables: int) -> None:
    out = Console(file=io.StringIO(), width=width)
    print_table(out, "Won by the end", ["period"], COLUMNS, LINES, beside=2)
    printed = out.file.getvalue()  # type: ignore[attr-defined]

    assert all(cell in printed for line in LINES for cell in line)
    assert printed.count("2026-Q4") == tables
    assert ("Beside it" in printed) == (tables == 2)
    assert all(len(line.rstrip()) <= width for line in printed.splitlines())
