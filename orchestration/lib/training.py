"""From the warehouse's features to a fitted scorecard version: reads the training rows, calls `ml`, stores the result.

How weights are fitted is in `ml`; what a feature is, in the dbt project. Here the two meet: once for a fit by the settings, once
for a refit of a card round a person's choices.
"""

from __future__ import annotations

import getpass
import hashlib
import io
import json
import math
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from itertools import accumulate
from typing import TYPE_CHECKING, Any, Literal, get_args

import duckdb

from orchestration.lib.card_store import (
    StoredCard,
    active_card,
    save_card,
    save_settings_copy,
    set_state,
)
from orchestration.lib.errors import UserError
from orchestration.lib.scorecard_settings import (
    CATEGORY_ATTRIBUTES,
    EXTRACTED_NUMBER_ATTRIBUTES,
    GRADES,
    LEVELS,
    Criterion,
    Grades,
    Levels,
    ScorecardSettings,
    criterion_key,
    fitted_criteria,
    protected_criteria,
)
from orchestration.lib.workspace import Workspace

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

    from ml.card import Card, CardSpec, Choices
    from ml.leaks import History
    from ml.scorecard import Fitted

#: Folds and bootstraps must come out the same for the same deals.
FIT_SEED = 20_260_101

#: draft: nothing changes. activate: by a person's word. automatic: by the figures, as `activation` in scorecard.yml allows.
Mode = Literal["draft", "activate", "automatic"]

MODES: tuple[Mode, ...] = get_args(Mode)

#: Attributes that stand in the extracts of accounts; the others are made from dated records.
EXTRACTED_ATTRIBUTES = (*EXTRACTED_NUMBER_ATTRIBUTES, *CATEGORY_ATTRIBUTES)

#: Where the spine of each target stands, and the features as of it.
SPINES = {"deal_won": "deals", "account_wins": "account_months"}
#: What features of behaviour read and the criteria's definitions decide: built before them wherever definitions are tried.
BEHIND_BEHAVIOUR = ("int_account_parents", "int_account_descendants", "int_contacts__role_weights")


@dataclass(frozen=True)
class FitResult:
    """A stored fit.

    Attributes
    ----------
    reason : why it is active, or why it is not.
    """

    version: str
    is_active: bool
    card: Card
    run_id: str
    reason: str


@dataclass(frozen=True)
class TrainingRows:
    """What a fit learns from: one row per closed deal (or account and month), in the order of spine_id.

    Attributes
    ----------
    features : index spine_id, one column per criterion
    won : 0 or 1
    closed_at : when the outcome stood
    opened_at : as of when the features are
    account_id : the account of each row
    amount : of each deal, NaN = unknown; None for targets without amounts
    """

    features: pd.DataFrame
    won: np.ndarray
    closed_at: np.ndarray
    opened_at: np.ndarray
    account_id: np.ndarray
    amount: np.ndarray | None


def fit_mode(text: str) -> Mode:
    """The mode of this name.

    Raises
    ------
    UserError
        There is none.
    """
    for mode in MODES:
        if mode == text:
            return mode
    raise UserError(f"the mode of a fit is one of {', '.join(MODES)} (value: {text!r})")


def card_spec(settings: ScorecardSettings, choices: Choices | None = None) -> CardSpec:
    """The settings' criteria as `ml` takes them, with the choices of people that still apply to them.

    Categories are lower case, as the features are. Criteria on protected attributes are left out unless the settings
    say that they are used.
    """
    from ml.card import BandSpec, CardSpec, Choices, CriterionSpec

    def bands_of(criterion: Criterion) -> tuple[BandSpec, ...] | None:
        if criterion.bands == "auto":
            return None
        if criterion.type == "category":
            listed = [band for band in criterion.bands if band.values is not None]
            return tuple(
                BandSpec(
                    label=b.label,
                    values=tuple(v.strip().lower() for v in b.values or ()),
                    points=b.points,
                    is_pinned=b.pin,
                )
                for b in listed
            )
        lower: float | None = None
        specs = []
        for band in criterion.bands:
            specs.append(
                BandSpec(label=band.label, lower=lower, upper=band.below, points=band.points, is_pinned=band.pin)
            )
            lower = band.below
        return tuple(specs)

    used = fitted_criteria(settings)
    criteria = tuple(
        CriterionSpec(
            name=name,
            kind=criterion.kind,
            value_type=criterion.type,
            bands=bands_of(criterion),
            missing_points=criterion.missing,
            monotone=criterion.monotone,
            other_points=criterion.bands[-1].points
            if criterion.type == "category" and criterion.bands != "auto"
            else 0,
            whole_numbers=criterion.measure == "days_since_last" or None,
            sign=criterion.sign,
            insist=criterion.insist,
        )
        for name, criterion in used.items()
    )
    return CardSpec(
        criteria=criteria,
        belief_deals=settings.beliefs.deals,
        expected_win_rate=settings.beliefs.base_win_rate,
        segment_by=settings.segments.by,
        max_pairs=settings.pairs.most,
        choices=applicable(choices or Choices(), used),
    )


def refit_spec(settings: ScorecardSettings, card: Card, choices: Choices) -> CardSpec:
    """What refits a card round choices: its own criteria and bands, the settings' beliefs."""
    from ml.card import BandSpec, CardSpec, CriterionSpec

    pairs = {pair.name for pair in card.pairs}
    bands = {b.name: b for b in card.criterion_bands() if b.name not in pairs}
    criteria = []
    for name, its in bands.items():
        listed = [band for band in its.bands if band.band_type in ("range", "values")]
        other = [band.expert_points for band in its.bands if band.band_type == "other"]
        criteria.append(
            CriterionSpec(
                name=name,
                kind=its.kind,
                value_type=its.value_type,
                bands=tuple(BandSpec(b.label, b.lower, b.upper, b.values, b.expert_points) for b in listed),
                missing_points=its.bands[-1].expert_points,
                monotone=settings.criteria[name].monotone if name in settings.criteria else None,
                other_points=other[0] if other else 0,
                # A person looks at a card with this criterion and changes it: the leak guard has had its say.
                insist=True,
            )
        )
    return CardSpec(
        criteria=tuple(criteria),
        belief_deals=settings.beliefs.deals,
        expected_win_rate=settings.beliefs.base_win_rate,
        segment_by=card.segment_by,
        max_pairs=settings.pairs.most if card.pairs else 0,
        choices=replace(choices, locked_bands={**bands, **choices.locked_bands}),
    )


def applicable(choices: Choices, names: Mapping[str, Any]) -> Choices:
    """Those of the choices whose criteria are still scored."""
    from ml.card import Choices

    return Choices(
        pins=tuple(pin for pin in choices.pins if pin.criterion in names),
        signs={name: sign for name, sign in choices.signs.items() if name in names},
        locked_bands={name: bands for name, bands in choices.locked_bands.items() if name in names},
    )


def definitions_of(settings: ScorecardSettings) -> dict[str, dict[str, Any]]:
    """Criterion -> its key and definition, as a version keeps them."""
    return {
        name: {"criterion_key": criterion_key(name, definition), "definition": definition}
        for name, definition in ((name, settings.definition_of(name)) for name in fitted_criteria(settings))
    }


def read_features(
    con: duckdb.DuckDBPyConnection, definitions: Mapping[str, Mapping[str, Any]], subject: str
) -> pd.DataFrame:
    """One column per criterion, one row per spine row, indexed by spine_id, in its order.

    Parameters
    ----------
    definitions : criterion -> criterion_key and definition, see `definitions_of`
    subject : "deals", "account_months" or "accounts"
    """
    columns = []
    for name, stored in definitions.items():
        key = stored["criterion_key"].replace("'", "''")
        is_category = stored["definition"]["value_type"] == "category"
        value = "value_text" if is_category else "cast(value_micro as double) / 1000000"
        columns.append(f"max(case when criterion_key = '{key}' then {value} end) as \"{name}\"")
    return (
        con.execute(
            f"""
        select spine_id, {", ".join(columns)}
        from (
            select * from features.ftr_{subject}__explicit
            union all
            select * from features.ftr_{subject}__implicit
        )
        group by spine_id
        order by spine_id
        """
        )
        .df()
        .set_index("spine_id")
    )


def read_training_rows(
    con: duckdb.DuckDBPyConnection, settings: ScorecardSettings, definitions: Mapping[str, Mapping[str, Any]]
) -> TrainingRows:
    """The rows with an outcome and their features, by the label definition of the settings."""
    subject = SPINES[settings.label.target]
    amount = "cast(amount as double)" if subject == "deals" else "cast(null as double)"
    spine = con.execute(
        f"""
        select spine_id, account_id, is_won, as_of_at, closed_at, {amount} as amount
        from intermediate.int_spine__{subject}
        where is_won is not null order by spine_id
        """
    ).df()
    return TrainingRows(
        features=read_features(con, definitions, subject).reindex(spine["spine_id"]),
        won=spine["is_won"].to_numpy(),
        closed_at=spine["closed_at"].to_numpy(),
        opened_at=spine["as_of_at"].to_numpy(),
        account_id=spine["account_id"].to_numpy(),
        amount=spine["amount"].to_numpy() if subject == "deals" else None,
    )


def value_history(
    con: duckdb.DuckDBPyConnection,
    definitions: Mapping[str, Mapping[str, Any]],
    rows: TrainingRows,
    parent: StoredCard | None,
) -> History:
    """How the values of the training rows came about, for the leak guard.

    When a value was first seen in an extract of the account; and the bands in which the fit of the active version saw the
    deals that had closed by then, beside the bands of the same card in which they are today.
    """
    import pandas as pd

    from ml.edits import BAND_PREFIX
    from ml.leaks import History

    attributes = {name: stored["definition"]["attribute"] for name, stored in definitions.items()}
    extracted = {
        name: of for name, of in attributes.items() if of in EXTRACTED_ATTRIBUTES or str(of).startswith("custom.")
    }
    first_known_at = pd.DataFrame(index=rows.features.index)
    for name, attribute in extracted.items():
        if attribute in EXTRACTED_ATTRIBUTES:
            query = f"""
                select account_id, min(version_at) as first_known_at from staging.stg_crm__account_versions
                where {attribute} is not null group by account_id
            """
            found = con.execute(query).df()
        else:
            query = """
                select versions.account_id, min(versions.version_at) as first_known_at
                from staging.stg_crm__account_versions as versions
                inner join staging.stg_crm__account_custom_fields as custom
                    on versions._file = custom._file and versions._row = custom._row
                where custom.field = ? group by versions.account_id
            """
            found = con.execute(query, [attribute.removeprefix("custom.")]).df()
        first_known_at[name] = found.set_index("account_id")["first_known_at"].reindex(rows.account_id).to_numpy()
    before = now = None
    champion = _card_of(parent)
    if parent is not None and parent.training_rows is not None and champion is not None:
        seen = pd.read_parquet(parent.training_rows).set_index("spine_id")
        same = [
            name
            for name, stored in parent.document["criteria"].items()
            if stored["definition"]["kind"] == "explicit"  # behaviour may be landed late: its records are dated
            and definitions.get(name, {}).get("criterion_key") == stored["criterion_key"]
        ]
        if set(champion.criteria) - {pair.name for pair in champion.pairs} <= set(rows.features.columns):
            still = rows.features.index.intersection(seen.index)
            before = seen.loc[still, [BAND_PREFIX + name for name in same]].rename(
                columns=lambda column: column.removeprefix(BAND_PREFIX)
            )
            now = champion.band_numbers(rows.features.loc[still])[same]
    return History(
        first_known_at=first_known_at if len(extracted) else None,
        opened_at=rows.opened_at if len(extracted) else None,
        before=before,
        now=now,
    )


def fit_scorecard(
    con: duckdb.DuckDBPyConnection,
    workspace: Workspace,
    settings: ScorecardSettings,
    *,
    mode: Mode,
    note: str,
    progress: Callable[[str], None],
) -> FitResult:
    """Fit a card by the settings on the closed deals and land it as a version; activate it if `mode` and the figures say so.

    The first version is always activated: there is none to compare it with.

    Parameters
    ----------
    con : connection to the warehouse, with features built for the criteria of `settings`
    """
    from ml.card import Choices
    from ml.scorecard import fit

    parent = active_card(workspace)
    definitions = definitions_of(settings)
    rows = read_training_rows(con, settings, definitions)
    population = read_features(con, definitions, "accounts")
    champion = _card_of(parent)
    left_out = () if settings.protected.use else protected_criteria(settings)
    if left_out:
        progress(f"left out, being protected attributes: {', '.join(left_out)}")
    progress(f"fitting on {len(rows.won):,} closed deals, {int(rows.won.sum()):,} of them won")
    spec = card_spec(settings, champion.choices if champion else Choices())
    is_comparable = parent is not None and set(parent.document["criteria"]) <= set(rows.features.columns)
    fitted = fit(
        spec,
        rows.features,
        rows.won,
        rows.closed_at,
        seed=FIT_SEED,
        population=population,
        active=champion if is_comparable else None,
        active_fitted_at=datetime.fromisoformat(parent.document["as_of_at"]) if parent and is_comparable else None,
        amount=rows.amount,
        history=value_history(con, definitions, rows, parent),
        protected=protected_criteria(settings) if settings.protected.use else (),
        groups=rows.account_id,
    )
    save_settings_copy(workspace, workspace.scorecard_file)
    version, run_id, registered = store_version(
        con, workspace, settings, fitted, rows, definitions, note=note, parent=parent, population=population
    )
    verdict = activation_verdict(workspace, settings, spec, rows, parent, champion, mode=mode, note=note, con=con)
    if verdict.activate:
        set_state(workspace, version, "active", author=author(), note=verdict.reason)
    _set_alias(workspace, registered, is_active=verdict.activate)
    for sentence in fitted.card.verdict:
        progress(sentence)
    progress(f"scorecard {version} is {'active' if verdict.activate else 'a draft'}: {verdict.reason}")
    return FitResult(version, verdict.activate, fitted.card, run_id, verdict.reason)


def store_version(
    con: duckdb.DuckDBPyConnection,
    workspace: Workspace,
    settings: ScorecardSettings,
    fitted: Fitted,
    rows: TrainingRows,
    definitions: Mapping[str, Mapping[str, Any]],
    *,
    note: str,
    parent: StoredCard | None,
    population: pd.DataFrame,
) -> tuple[str, str, int]:
    """Log a fit in MLflow and land it as a draft: version, run id, MLflow's version."""
    from ml.tracking import log_card

    card = fitted.card
    as_of_at = con.execute("select as_of_at from settings.refresh").fetchall()[0][0]
    label = settings.label.definition()
    run_id, registered = log_card(
        card,
        tracking_dir=workspace.mlflow,
        params={
            "deals": len(rows.won),
            "criteria": len(definitions),
            "as_of_at": as_of_at.isoformat(),
            "seed": FIT_SEED,
            "label": label_version(label),
        },
        tags={"note": note},
    )
    scored = con.execute("select account_id from intermediate.int_accounts__states where state = 'scored'").fetchall()
    used = {band.criterion for band in card.bands}
    version = save_card(
        workspace,
        {
            "created_at": datetime.now(UTC).replace(tzinfo=None).isoformat(),
            "as_of_at": as_of_at.isoformat(),
            "author": author(),
            "note": note,
            "parent": parent.version if parent else None,
            "mlflow_run_id": run_id,
            "mlflow_version": registered,
            # Criteria that the leak guard left out are not part of the card.
            "criteria": {name: dict(stored) for name, stored in definitions.items() if name in used},
            "label": {"version": label_version(label), "definition": label},
            "matrix": matrix_limits(settings, card, population.loc[[row[0] for row in scored]]),
            "card": card.to_document(),
        },
        training_rows=to_parquet(training_frame(fitted, rows)) if len(rows.won) else None,
    )
    return version, run_id, registered


def training_frame(fitted: Fitted, rows: TrainingRows) -> pd.DataFrame:
    """The deals of a fit: spine_id, is_won, closed_at, their points out of fold (null where there are none) and the
    place of their band per criterion."""
    import pandas as pd

    from ml.edits import BAND_PREFIX

    columns: dict[str, Any] = {
        "spine_id": rows.features.index.astype(str),
        "is_won": rows.won.astype("int8"),
        "closed_at": pd.to_datetime(rows.closed_at).astype("datetime64[us]"),
    }
    for name in ("fit_points", "engagement_points"):
        values = [None] * len(rows.won) if fitted.out_of_fold is None else fitted.out_of_fold[name].to_numpy()
        columns[name] = pd.array(values, dtype="Int64")
    for criterion, numbers in fitted.band_numbers.items():
        columns[f"{BAND_PREFIX}{criterion}"] = numbers.to_numpy(dtype="int16")
    return pd.DataFrame(columns)


def to_parquet(frame: pd.DataFrame) -> bytes:
    """The frame as Parquet that every engine reads."""
    buffer = io.BytesIO()
    frame.to_parquet(buffer, index=False, compression="zstd")
    return buffer.getvalue()


def label_version(definition: Mapping[str, Any]) -> str:
    """A short name of a label definition: the same for the same definition."""
    return hashlib.sha256(json.dumps(definition, sort_keys=True).encode()).hexdigest()[:8]


# --------------------------------------------------------------------------- which version scores


@dataclass(frozen=True)
class Verdict:
    """Whether a new version becomes active, and why; the comparison behind it, where there was one."""

    activate: bool
    reason: str
    comparison: dict[str, Any] = field(default_factory=dict)


def activation_verdict(
    workspace: Workspace,
    settings: ScorecardSettings,
    spec: CardSpec,
    rows: TrainingRows,
    parent: StoredCard | None,
    champion: Card | None,
    *,
    mode: Mode,
    note: str,
    con: duckdb.DuckDBPyConnection,
) -> Verdict:
    """What is to become of a new version.

    An automatic fit replaces the active card when it is not worse on the deals that closed since that card was fitted (the
    challenger's method is fitted again without them), or when the active card is older than the settings allow. Bad
    health of the data holds the last good card: what was learnt from a broken source is not put to use by a machine.
    """
    if parent is None or champion is None:
        return Verdict(True, note if mode == "activate" else "the first card: there is none to compare it with")
    if mode == "activate":
        return Verdict(True, note)
    by_hand = f"activate it with: scoring weights activate VERSION --note WHY (active is {parent.version})"
    if mode == "draft":
        return Verdict(False, by_hand)
    if not settings.activation.automatic:
        return Verdict(False, f"automatic activation is off in scorecard.yml; {by_hand}")
    sick = failed_health_checks(con)
    if sick:
        return Verdict(False, f"{parent.version} is held because of bad health: {'; '.join(sick[:3])}")
    fitted_at = datetime.fromisoformat(parent.document["as_of_at"])
    as_of_at = con.execute("select as_of_at from settings.refresh").fetchall()[0][0]
    age_days = (as_of_at - fitted_at).days
    if age_days >= settings.activation.oldest_days:
        return Verdict(
            True, f"{parent.version} is {age_days} days old, and {settings.activation.oldest_days} is the limit"
        )
    missing = sorted(set(parent.document["criteria"]) - set(rows.features.columns))
    if missing:
        return Verdict(
            False, f"not comparable with {parent.version}, which scores {', '.join(missing)} as well; {by_hand}"
        )
    import pandas as pd

    from ml.evaluate import compare_on_later_deals
    from ml.scorecard import fit

    closed_at = pd.Series(rows.closed_at, index=rows.features.index)

    def challenger(X: pd.DataFrame, won: np.ndarray) -> Card:
        return fit(spec, X, won, closed_at.loc[X.index], seed=FIT_SEED, with_evaluation=False).card

    found = compare_on_later_deals(
        challenger, champion, rows.features, rows.won, rows.closed_at, champion_fitted_at=fitted_at, seed=FIT_SEED
    )
    return Verdict(found["decision"] == "not_worse", found["sentence"], found)


def failed_health_checks(con: duckdb.DuckDBPyConnection) -> list[str]:
    """Messages of the checks that failed when the marts were last built; none before that."""
    built = con.execute(
        "select count(*) from duckdb_tables() where schema_name = 'marts' and table_name = 'model_health'"
    ).fetchall()[0][0]
    if not built:
        return []
    # A card that is old or drifts is mended by a new one; only a broken source makes a new one wrong.
    return [
        row[0]
        for row in con.execute(
            "select message from marts.model_health where status = 'fail' and check_name = 'silence' order by subject"
        ).fetchall()
    ]


def _card_of(stored: StoredCard | None) -> Card | None:
    from ml.card import Card

    return None if stored is None else Card.from_document(stored.document["card"])


def _set_alias(workspace: Workspace, registered: int, *, is_active: bool) -> None:
    from ml.tracking import set_alias

    set_alias(registered, "champion" if is_active else "challenger", tracking_dir=workspace.mlflow)


def matrix_limits(settings: ScorecardSettings, card: Card, accounts: pd.DataFrame) -> dict[str, dict[str, int]]:
    """Least points of each grade and level: as the settings give them, or so that the stated share of accounts is in
    each.

    Parameters
    ----------
    accounts : features of the accounts that are scored; with none, only limits given in points can be kept, and shares
        fall back to 0 points, so that nobody is graded on a limit that no account has seen
    """
    by_criterion = card.points(accounts)
    kinds = {band.criterion: band.kind for band in card.bands}

    def totals(kind: str) -> list[int]:
        names = [name for name, its_kind in kinds.items() if its_kind == kind]
        return by_criterion[names].sum(axis=1).astype(int).tolist()

    fit, engagement = totals("explicit"), totals("implicit")
    grades, levels = settings.matrix.fit_grades, settings.matrix.engagement_levels
    grade_limits = [grades.A, grades.B, grades.C]
    level_limits = [levels.level_1, levels.level_2, levels.level_3]

    def least(
        model: Grades | Levels, limits: list[float], points: list[int], labels: tuple[str, ...]
    ) -> dict[str, int]:
        if model.method == "points":
            return {label: math.ceil(limit) for label, limit in zip(labels, limits, strict=False)}
        shares = accumulate(limits)
        return {label: least_points_of_share(points, share) for label, share in zip(labels, shares, strict=False)}

    def scaled(scale: float) -> dict[str, dict[str, int]]:
        return {
            "fit_grades": least(grades, [limit * scale for limit in grade_limits], fit, GRADES),
            "engagement_levels": least(levels, [limit * scale for limit in level_limits], engagement, LEVELS),
        }

    capacity = settings.matrix.capacity
    if capacity is None or not fit:
        return scaled(1)
    cells = set(settings.matrix.next_actions[capacity.action])
    pairs = Counter(zip(fit, engagement, strict=True))
    # The shares keep their proportions. Among a hundred scales the one that comes closest to the capacity from below.
    largest = min(100 / max(sum(grade_limits), 1e-9), 100 / max(sum(level_limits), 1e-9))
    best, best_count = scaled(0), 0
    for step in range(1, 101):
        found = scaled(largest * step / 100)
        count = sum(number for (f, e), number in pairs.items() if cell_of(found, f, e) in cells)
        if best_count < count <= capacity.accounts:
            best, best_count = found, count
    return best


def cell_of(limits: Mapping[str, Mapping[str, int]], fit_points: int, engagement_points: int) -> str:
    """The cell of these points under these limits, as the macros fit_grade and engagement_level have it.

    >>> cell_of({"fit_grades": {"A": 9, "B": 5, "C": 0}, "engagement_levels": {"1": 9, "2": 5, "3": 0}}, 5, -1)
    'B4'
    """
    grade = next((g for g in GRADES[:-1] if fit_points >= limits["fit_grades"][g]), GRADES[-1])
    level = next((n for n in LEVELS[:-1] if engagement_points >= limits["engagement_levels"][n]), LEVELS[-1])
    return grade + level


def least_points_of_share(totals: list[int], share_pct: float) -> int:
    """The least points with which about `share_pct` of the accounts reach a grade.

    Accounts with equal points are never torn apart: all or none of them reach it, whichever comes closer to the share.
    Where
    all accounts are equal, nobody stands out and nobody reaches it.

    >>> least_points_of_share([30, 20, 10, 0], 50)
    20
    >>> least_points_of_share([5, 5, 5, 5], 10)
    6
    """
    if not totals:
        return 0
    wanted = len(totals) * share_pct / 100
    counts = Counter(totals)
    falling = sorted(counts, reverse=True)
    best, best_distance = falling[0] + 1, wanted
    reached = 0
    for points in falling[:-1] if share_pct < 100 else falling:
        reached += counts[points]
        distance = abs(reached - wanted)
        if distance <= best_distance:
            best, best_distance = points, distance
    return best


def author() -> str:
    """Who runs this, for the record."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return "unknown"
