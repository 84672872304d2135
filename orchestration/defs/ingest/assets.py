"""From files to raw tables: the landing zone, one raw asset per contract, and the settings that dbt joins.

Each raw asset carries its contract's check, the settings one of the files of rules and segments. A table that fails keeps its last
good rows, a file that is refused is left out; neither stops anything else.
"""

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path

import dagster as dg

from orchestration.defs.resources import ScoringWorkspace, WriterLock
from orchestration.lib.card_store import active_card, shadow_cards
from orchestration.lib.condition_files import write_refusals
from orchestration.lib.contracts import Contract, load_contracts
from orchestration.lib.moments import parse_moment
from orchestration.lib.rules import prepare_rules
from orchestration.lib.scorecard_settings import settings_of
from orchestration.lib.segments import prepare_segments, segment_catalogue
from orchestration.lib.settings_tables import last_as_of, write_settings
from orchestration.lib.sources import read_sources
from orchestration.lib.warehouse import open_warehouse, remove_warehouse
from orchestration.lib.workspace import SOURCE_CONTRACTS

OWNERS = ["team:data-engineering"]
CONTRACT_CHECK = "contract"
FILES_CHECK = "rules_and_segments"


def raw_key(table: str) -> dg.AssetKey:
    return dg.AssetKey(["raw", table])


class LoadConfig(dg.Config):
    """full: read the whole landing zone again, into a new warehouse."""

    full: bool = False


class MomentConfig(dg.Config):
    """as_of: ISO moment in UTC, after which nothing is seen; empty means now."""

    as_of: str = ""


def build_ingest_assets(contracts: Mapping[str, Contract]) -> list[dg.AssetsDefinition]:
    """The raw tables of these contracts, and the settings tables."""

    @dg.multi_asset(
        name="raw_tables",
        group_name="ingest",
        specs=[
            dg.AssetSpec(
                raw_key(name),
                description=f"{contract.description}. Contract: data_contracts/sources/{Path(contract.path).name}",
                owners=OWNERS,
                kinds={"duckdb"},
                metadata={"contract": contract.name, "primary_key": ", ".join(contract.key)},
            )
            for name, contract in contracts.items()
        ],
        check_specs=[
            dg.AssetCheckSpec(
                CONTRACT_CHECK, asset=raw_key(name), description="Header, types and rules of the contract"
            )
            for name in contracts
        ],
    )
    def raw_tables(
        context: dg.AssetExecutionContext,
        config: LoadConfig,
        workspace: ScoringWorkspace,
        writer_lock: WriterLock,
    ) -> Iterator[dg.MaterializeResult | dg.AssetCheckResult]:
        from orchestration.lib.landing import collect
        from orchestration.lib.loading import load, write_notices

        home = workspace.locate()
        sources = read_sources(home.sources_file, dict(contracts))
        collection = collect(home, dict(contracts), sources)
        for notice in collection.notices:
            # A file that landed before under another name is no news at every refresh; one that nobody reads is.
            if notice.status != "duplicate":
                context.log.warning(f"not read: {notice.message}")
        if config.full:
            remove_warehouse(home)
        with open_warehouse(home) as connection:
            result = load(connection, home, dict(contracts), sources, context.log.info)
            write_notices(connection, collection.notices)
        for failure in result.failures:
            context.log.error(f"{failure.source_table}: {failure.file}: {failure.message}")
        for name in contracts:
            counts = result.tables[name]
            failures = [f for f in result.failures if f.source_table == name]
            yield dg.AssetCheckResult(
                asset_key=raw_key(name),
                check_name=CONTRACT_CHECK,
                passed=not failures,
                severity=dg.AssetCheckSeverity.ERROR,
                description="; ".join(f"{f.file}: {f.message}" for f in failures)
                or "every loaded row keeps the contract",
                metadata={"rows_quarantined": counts.rows_quarantined},
            )
            yield dg.MaterializeResult(
                asset_key=raw_key(name),
                metadata={
                    "files": counts.files,
                    "rows_in": counts.rows_in,
                    "rows_loaded": counts.rows_loaded,
                    "rows_already_there": counts.rows_already_there,
                    "rows_quarantined": counts.rows_quarantined,
                },
            )

    @dg.asset(
        group_name="ingest",
        owners=OWNERS,
        kinds={"duckdb"},
        deps=[raw_key(name) for name in contracts],
        check_specs=[
            dg.AssetCheckSpec(
                FILES_CHECK, asset="scoring_settings", description="Every file of a rule or segment can be used"
            )
        ],
        description="scorecard.yml, rules and segments as tables, and the moment that this refresh describes",
    )
    def scoring_settings(
        context: dg.AssetExecutionContext,
        config: MomentConfig,
        workspace: ScoringWorkspace,
        writer_lock: WriterLock,
    ) -> dg.MaterializeResult:
        home = workspace.locate()
        settings = settings_of(home)
        # Taken after loading: what arrived for this refresh is part of it.
        as_of_at = parse_moment(config.as_of) if config.as_of else datetime.now(UTC).replace(tzinfo=None)
        with open_warehouse(home) as connection:
            earlier = last_as_of(connection)
            write_settings(connection, settings, active_card(home), as_of_at, shadow_cards(home))
            rule_count, refused = prepare_rules(connection, home, as_of_at, segment_catalogue(home))
            segment_count, refused_segments = prepare_segments(connection, home, as_of_at)
            refused += refused_segments
            write_refusals(connection, refused)
        context.log.info(f"as of {as_of_at:%Y-%m-%d %H:%M:%S} UTC")
        if as_of_at > datetime.now(UTC).replace(tzinfo=None):
            context.log.warning(
                "that moment lies in the future: what fires, enters a segment or is handed over there is landed as a fact of then; "
                "scoring explain --at and scoring forecast look ahead and land nothing"
            )
        if not config.as_of and earlier is not None and as_of_at < earlier:
            context.log.warning(
                f"the clock stands at {as_of_at:%Y-%m-%d %H:%M:%S} UTC, before the last refresh's moment, {earlier:%Y-%m-%d %H:%M:%S}: "
                "either it has gone back, or that refresh looked ahead; what happened after the clock's moment is not seen until then"
            )
        return dg.MaterializeResult(
            metadata={
                "as_of_at": as_of_at.isoformat(),
                "criteria": len(settings.criteria),
                "rules": rule_count,
                "segments": segment_count,
            },
            check_results=[
                dg.AssetCheckResult(
                    check_name=FILES_CHECK,
                    passed=not refused,
                    severity=dg.AssetCheckSeverity.ERROR,
                    description="\n".join(reason for refusal in refused for reason in refusal.reasons)
                    or "every file can be used",
                    metadata={"files_refused": len(refused)},
                )
            ],
        )

    return [raw_tables, scoring_settings]


def source_contracts() -> dict[str, Contract]:
    """The contracts of all landed tables."""
    return load_contracts(SOURCE_CONTRACTS)
