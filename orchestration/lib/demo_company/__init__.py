"""A seeded generator of a believable B2B company's exports, with the true weights planted in its deals.

`generate` writes Parquet files in the shape of the data contracts, at any size, block by block. What decides
its deals is `CRITERIA` (data, in points); nothing of that goes into a landed table. How the warehouse treats
the files is none of this package's business.
"""

from orchestration.lib.demo_company.criteria import BASE_LOG_ODDS, CRITERIA, POINTS_PER_DOUBLING, SIGNALS
from orchestration.lib.demo_company.generation import (
    DEFAULT_ACCOUNTS,
    DEFAULT_EVENTS_PER_ACCOUNT,
    DEFAULT_MONTHS,
    DEFAULT_SEED,
    TRUTH_DEALS_FILE,
    TRUTH_FILE,
    DemoSummary,
    generate,
)
from orchestration.lib.demo_company.tables import OpenFile, directory_target

__all__ = [
    "BASE_LOG_ODDS",
    "CRITERIA",
    "DEFAULT_ACCOUNTS",
    "DEFAULT_EVENTS_PER_ACCOUNT",
    "DEFAULT_MONTHS",
    "DEFAULT_SEED",
    "POINTS_PER_DOUBLING",
    "SIGNALS",
    "TRUTH_DEALS_FILE",
    "TRUTH_FILE",
    "DemoSummary",
    "OpenFile",
    "directory_target",
    "generate",
]
