"""Keeps each day's forecast as it was made, in the landing zone. Reads the published marts only, so it blocks
nobody."""

from __future__ import annotations

import io
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import duckdb

from orchestration.lib.documents import land_document
from orchestration.lib.errors import UserError
from orchestration.lib.workspace import Workspace

FORECASTS = "scoring/forecast_records"


@dataclass(frozen=True)
class ForecastRecord:
    """One landed forecast."""

    file: Path
    row_count: int
    as_of_at: datetime


def record_forecast(workspace: Workspace) -> ForecastRecord:
    """Land the published `pipeline_forecast` as Parquet.

    Raises
    ------
    UserError
        Nothing has been published yet.
    """
    if not workspace.published.exists():
        raise UserError(f"there is no published snapshot in {workspace.marts}: run scoring refresh first")
    import pyarrow.parquet as pq

    with duckdb.connect(str(workspace.published), read_only=True) as connection:
        table = connection.execute(
            "select * from marts.pipeline_forecast order by period_start, owner_id"
        ).to_arrow_table()
        as_of_at = connection.execute("select as_of_at from marts.publication").fetchall()[0][0]
    buffer = io.BytesIO()
    pq.write_table(table, buffer)
    file = land_document(workspace, FORECASTS, f"forecast-{as_of_at:%Y-%m-%d}.parquet", buffer.getvalue())
    return ForecastRecord(file, table.num_rows, as_of_at)
