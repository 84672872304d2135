"""What stands in `scorecard.yml`: the model of the file, its rules and its meaning for the fit.

Only the settings as a person writes them. The tables that dbt reads are made in `settings_tables`, fitted cards are
kept by `card_store`.
"""

from __future__ import annotations

import difflib
import hashlib
import json
import math
from collections.abc import Iterable
from datetime import date
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    StrictBool,
    StrictInt,
    StrictStr,
    field_validator,
    model_validator,
)

from orchestration.lib.contracts import load_contracts
from orchestration.lib.settings_file import Location, SettingsError, line_of, read_settings, read_yaml_with_lines
from orchestration.lib.signals import known_signals
from orchestration.lib.workspace import SOURCE_CONTRACTS, Workspace

GRADES = ("A", "B", "C", "D")
LEVELS = ("1", "2", "3", "4")
CELLS = tuple(grade + level for grade in GRADES for level in LEVELS)

#: Attributes that the warehouse knows of an account without a custom column. Custom columns are called
#: "custom.<column>".
EXTRACTED_NUMBER_ATTRIBUTES = ("employees", "annual_revenue", "founded_year")
#: How many people take part: behaviour, though a criterion reads it as an attribute.
BREADTH_ATTRIBUTES = ("engaged_person_count", "engaged_function_count", "buying_group_pct")
NUMBER_ATTRIBUTES = (
    *EXTRACTED_NUMBER_ATTRIBUTES,
    "contact_count",
    "decision_maker_count",
    *BREADTH_ATTRIBUTES,
    "nps_score",
    "market_growth_pct",
    "digital_spend_pct",
)
CATEGORY_ATTRIBUTES = (
    "industry",
    "country",
    "region",
    "city",
    "account_type",
    "lifecycle_stage",
    "lead_source",
    "owner_id",
    "parent_account_id",
)

Points = Annotated[StrictInt, Field(ge=-1000, le=1000)]
Number = Annotated[float, Field(allow_inf_nan=False)]
Share = Annotated[float, Field(ge=0, le=100)]
ShareLeft = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
RoleWeight = Annotated[float, Field(ge=0, le=10, allow_inf_nan=False)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Band(_Strict):
    """One band of a criterion: a range that ends below a number, a set of categories, or (neither) the rest."""

    below: Number | None = None
    values: list[StrictStr] | None = None
    points: Points = 0
    label: StrictStr | None = None
    # The points are held: the fit moves the others around them.
    pin: StrictBool = False

    @model_validator(mode="after")
    def _one_kind(self) -> Band:
        if self.below is not None and self.values is not None:
            raise ValueError("a band has either `below` or `values`, not both")
        if self.values is not None and not self.values:
            raise ValueError("`values` must name at least one category")
        return self


class Criterion(_Strict):
    """One thing that is scored. `name` is its key in the file."""

    kind: Literal["explicit", "implicit"]
    description: StrictStr = ""
    attribute: StrictStr | None = None
    type: Literal["number", "category"] = "number"
    # Counts are kept in thousandths: less than one would count nothing, without a word.
    signals: dict[StrictStr, Annotated[float, Field(ge=0.001, le=1000)]] | list[StrictStr] | None = None
    measure: Literal["count", "days_since_last"] = "count"
    half_life_days: Annotated[StrictInt, Field(ge=1, le=3650)] | None = None
    # How a count fades, where not by a half-life: in a line to nothing at the end of the window, or in steps
    # (age in days -> share that is left from then on).
    decay: Literal["linear"] | dict[Annotated[StrictInt, Field(ge=1, le=3650)], ShareLeft] | None = None
    window_days: Annotated[StrictInt, Field(ge=1, le=3650)] | None = None
    cap_per_day: Annotated[float, Field(ge=0.001, le=1_000_000)] | None = None
    cap_per_person: Annotated[float, Field(ge=0.001, le=1_000_000)] | None = None
    # Of the account's whole count.
    ceiling: Annotated[float, Field(ge=0.001, le=1_000_000_000)] | None = None
    floor: Annotated[float, Field(ge=0.001, le=1_000_000_000)] | None = None
    monotone: Literal["increasing", "decreasing"] | None = None
    bands: list[Band] | Literal["auto"] = "auto"
    missing: Points = 0
    pin_missing: StrictBool = False
    sign: Literal["positive", "negative"] | None = None
    insist: StrictBool = False

    @model_validator(mode="after")
    def _fits_its_kind(self) -> Criterion:
        if self.kind == "explicit":
            if not self.attribute:
                raise ValueError("an explicit criterion needs `attribute`")
            given = [
                name
                for name in (
                    "signals",
                    "half_life_days",
                    "decay",
                    "window_days",
                    "cap_per_day",
                    "cap_per_person",
                    "ceiling",
                    "floor",
                )
                if getattr(self, name) is not None
            ]
            if given:
                raise ValueError(f"`{given[0]}` is for implicit criteria only")
        else:
            if not self.signals:
                raise ValueError("an implicit criterion needs `signals`")
            if self.attribute:
                raise ValueError("`attribute` is for explicit criteria only")
            if self.type != "number":
                raise ValueError("an implicit criterion is a number")
            of_counts = (
                self.half_life_days,
                self.decay,
                self.cap_per_day,
                self.cap_per_person,
                self.ceiling,
                self.floor,
            )
            if self.measure == "days_since_last" and any(of_counts):
                raise ValueError("`measure: days_since_last` has neither half-life, decay, caps, floor nor ceiling")
            self._check_decay()
        if isinstance(self.bands, list):
            self._check_bands(self.bands)
        if self.monotone and self.type == "category":
            raise ValueError("`monotone` is for numbers only")
        return self

    def _check_decay(self) -> None:
        if self.decay is not None and self.half_life_days is not None:
            raise ValueError("`half_life_days` and `decay` are two ways to fade: give one of them")
        if self.decay == "linear" and self.window_days is None:
            raise ValueError("`decay: linear` ends at `window_days`, which is missing")
        if isinstance(self.decay, dict):
            left = [1.0, *(share for _, share in sorted(self.decay.items()))]
            if any(later > earlier for earlier, later in pairwise(left)):
                raise ValueError(
                    f"what is left must not grow with age in `decay` (value: {dict(sorted(self.decay.items()))})"
                )
        if self.floor is not None and self.ceiling is not None and self.floor > self.ceiling:
            raise ValueError(f"`floor` must not be above `ceiling` (value: {self.floor:g} > {self.ceiling:g})")

    def _check_bands(self, bands: list[Band]) -> None:
        if not bands:
            raise ValueError("`bands` is empty: leave it out, or write auto, to have bands found")
        rest = [band for band in bands if band.below is None and band.values is None]
        if len(rest) != 1 or bands[-1] is not rest[0]:
            raise ValueError("the last band, and only it, must be the rest: neither `below` nor `values`")
        if self.type == "number":
            if any(band.values is not None for band in bands):
                raise ValueError("`values` is for categories; ranges of numbers are written with `below`")
            edges = [band.below for band in bands[:-1] if band.below is not None]
            if any(low >= high for low, high in pairwise(edges)):
                raise ValueError(f"the edges in `below` must rise (value: {edges})")
        else:
            if any(band.below is not None for band in bands):
                raise ValueError("`below` is for numbers; categories are written with `values`")
            seen: set[str] = set()
            for value in (value.strip().lower() for band in bands for value in band.values or ()):
                if value in seen:
                    raise ValueError(f"the category stands in two bands (value: {value!r})")
                seen.add(value)

    @property
    def signal_weights(self) -> dict[str, float]:
        """Signal -> how much one touchpoint of it counts."""
        if isinstance(self.signals, dict):
            return dict(self.signals)
        return dict.fromkeys(self.signals or (), 1.0)

    def definition(self) -> dict[str, Any]:
        """What the criterion itself says on its value, and nothing of how the value is scored.

        The whole of what decides it is `ScorecardSettings.definition_of`.
        """
        return {
            "kind": self.kind,
            "value_type": self.type,
            "attribute": self.attribute,
            "measure": self.measure,
            "signals": dict(sorted(self.signal_weights.items())),
            "half_life_days": self.half_life_days,
            "window_days": self.window_days,
            "cap_per_day": self.cap_per_day,
            "cap_per_person": self.cap_per_person,
            # Left out where they are not set: what was defined before there were such settings keeps its key.
            **({} if self.decay is None else {"decay": _as_document(self.decay)}),
            **({} if self.ceiling is None else {"ceiling": self.ceiling}),
            **({} if self.floor is None else {"floor": self.floor}),
        }


def _as_document(decay: str | dict[int, float]) -> str | dict[str, float]:
    """As JSON keeps it: keys are text."""
    return decay if isinstance(decay, str) else {str(age): share for age, share in sorted(decay.items())}


def criterion_key(name: str, definition: dict[str, Any]) -> str:
    """The name with a short hash of the definition: two definitions of one name never share a feature."""
    digest = hashlib.sha256(json.dumps(definition, sort_keys=True).encode()).hexdigest()
    return f"{name}@{digest[:8]}"


class ClosedStages(_Strict):
    """Stages that decide the outcome of a closed deal, whatever its status says."""

    won: list[StrictStr] = []
    lost: list[StrictStr] = []

    @model_validator(mode="after")
    def _one_outcome(self) -> ClosedStages:
        both = {stage.strip().lower() for stage in self.won} & {stage.strip().lower() for stage in self.lost}
        if both:
            raise ValueError(f"a stage is won or lost, not both (value: {sorted(both)[0]!r})")
        return self


class AccountMonths(_Strict):
    """How many account-months the target `account_wins` learns from at most."""

    months: Annotated[StrictInt, Field(ge=1, le=120)] = 24
    most_accounts: Annotated[StrictInt, Field(ge=1)] = 20_000


class Label(_Strict):
    """What is learnt: the outcome, and which deals count for it."""

    target: Literal["deal_won", "account_wins"] = "deal_won"
    within_days: Annotated[StrictInt, Field(ge=1, le=1095)] = 90
    since: date | None = None
    reopened: Literal["newest", "first"] = "newest"
    stages: ClosedStages = ClosedStages()
    exclude_deal_types: list[StrictStr] = []
    exclude_loss_reasons: list[StrictStr] = []
    account_months: AccountMonths = AccountMonths()

    def definition(self) -> dict[str, Any]:
        """What decides the label, as plain JSON with sorted words: a card keeps a copy of it."""
        words = {name: sorted({word.strip().lower() for word in getattr(self, name)}) for name in _LABEL_WORDS}
        stages = {
            outcome: sorted({stage.strip().lower() for stage in getattr(self.stages, outcome)})
            for outcome in ("won", "lost")
        }
        whole: dict[str, Any] = {
            "target": self.target,
            "since": self.since.isoformat() if self.since else None,
            "reopened": self.reopened,
            "stages": stages,
            **words,
        }
        if self.target == "account_wins":
            whole |= {"within_days": self.within_days, "account_months": self.account_months.model_dump()}
        return whole


_LABEL_WORDS = ("exclude_deal_types", "exclude_loss_reasons")


class Beliefs(_Strict):
    """How much the experts' points are worth before any data."""

    deals: Annotated[float, Field(gt=0, le=10_000)] = 40
    base_win_rate: Annotated[float, Field(gt=0, lt=1)] = 0.25


class Segments(_Strict):
    """Which category criterion cuts the accounts into segments with weights of their own; none without `by`."""

    by: StrictStr | None = None


#: Characteristics that anti-discrimination law protects, as columns are usually called (EU directives 2000/43, 2000/78
#: and 2004/113; US Equal Credit Opportunity Act).
PROTECTED_ATTRIBUTES = (
    "age",
    "birth_date",
    "birth_year",
    "date_of_birth",
    "gender",
    "sex",
    "ethnicity",
    "race",
    "religion",
    "disability",
    "sexual_orientation",
)


class Protected(_Strict):
    """Attributes that do not enter the weights unless somebody says so."""

    attributes: list[StrictStr] = list(PROTECTED_ATTRIBUTES)
    use: StrictBool = False


class Pairs(_Strict):
    """How many pairs of criteria a fit may add."""

    most: Annotated[StrictInt, Field(ge=0, le=20)] = 3


class Activation(_Strict):
    """When a fitted version becomes active by itself."""

    automatic: StrictBool = True
    oldest_days: Annotated[StrictInt, Field(ge=1, le=3650)] = 180


class Limits(_Strict):
    """From where a figure warns, and from where it fails."""

    warn: Annotated[float, Field(gt=0, allow_inf_nan=False)]
    fail: Annotated[float, Field(gt=0, allow_inf_nan=False)]

    @model_validator(mode="after")
    def _warns_first(self) -> Limits:
        if self.warn > self.fail:
            raise ValueError(f"`warn` must not be above `fail` (value: {self.warn:g} > {self.fail:g})")
        return self


class Health(_Strict):
    """Limits of the mart model_health; see the template for what each of them means."""

    recent_days: Annotated[StrictInt, Field(ge=1, le=3650)] = 90
    least_accounts: Annotated[StrictInt, Field(ge=1)] = 100
    least_deals: Annotated[StrictInt, Field(ge=1)] = 30
    psi: Limits = Limits(warn=0.1, fail=0.25)
    missing_change: Limits = Limits(warn=10, fail=30)
    score_band: Limits = Limits(warn=2.5, fail=3.5)
    calibration: Limits = Limits(warn=2, fail=3)
    silence: Limits = Limits(warn=1, fail=3)
    silence_least_days: Annotated[StrictInt, Field(ge=1, le=365)] = 3
    card_age: Limits = Limits(warn=180, fail=365)


class Effort(_Strict):
    """What working an account costs, and in which order it is done today."""

    hours_per_account: Annotated[float, Field(ge=0.01, le=1000, allow_inf_nan=False)] = 2
    order_of_work: Literal["newest_first", "oldest_first", "largest_first"] = "newest_first"


class Holdout(_Strict):
    """A random share of accounts that is left unranked, so that the effect of ranking can be measured."""

    share_pct: Annotated[float, Field(ge=0, le=90, allow_inf_nan=False)] = 0
    name: Annotated[StrictStr, Field(min_length=1)] = "holdout"
    since: date | None = None

    @model_validator(mode="after")
    def _has_a_beginning(self) -> Holdout:
        if self.share_pct > 0 and self.since is None:
            raise ValueError("a holdout needs `since`, the day from which on the deals of both groups are compared")
        return self


class Bots(_Strict):
    """By what mail-security gateways and crawlers are told from people; see the template for what each of them means."""

    seconds_after_delivery: Annotated[StrictInt, Field(ge=0, le=3600)] = 5
    at_once_seconds: Annotated[StrictInt, Field(ge=0, le=3600)] = 10
    links_at_once: Annotated[StrictInt, Field(ge=2, le=1000)] = 3
    recipients_per_minute: Annotated[StrictInt, Field(ge=2, le=1_000_000)] = 5
    agents: list[Annotated[StrictStr, Field(min_length=3)]] = []
    data_centre_agents: list[Annotated[StrictStr, Field(min_length=3)]] = ["HeadlessChrome", "(compatible; "]


class States(_Strict):
    """Which accounts leave the ranking, and as what."""

    customer_when: list[Literal["flag", "won_deal"]] = ["flag"]
    customer_lifecycle_stages: list[StrictStr] = []
    disqualified_lifecycle_stages: list[StrictStr] = []
    decision_maker_seniorities: list[StrictStr] = []


class Grades(_Strict):
    """Limits of the fit grades: shares of accounts in per cent, or least points. D is the rest."""

    method: Literal["shares", "points"] = "shares"
    A: Number = 15
    B: Number = 25
    C: Number = 35

    @model_validator(mode="after")
    def _in_order(self) -> Grades:
        return _check_limits(self, [self.A, self.B, self.C])


class Levels(_Strict):
    """Limits of the engagement levels: shares of accounts in per cent, or least points. 4 is the rest."""

    method: Literal["shares", "points"] = "shares"
    level_1: Number = Field(10, alias="1")
    level_2: Number = Field(20, alias="2")
    level_3: Number = Field(30, alias="3")

    @model_validator(mode="after")
    def _in_order(self) -> Levels:
        return _check_limits(self, [self.level_1, self.level_2, self.level_3])


def _check_limits(model: Any, limits: list[float]) -> Any:
    if model.method == "shares":
        if any(limit < 0 for limit in limits) or sum(limits) > 100:
            raise ValueError(f"shares are per cent of accounts and must not add up to more than 100 (value: {limits})")
    elif any(high <= low for high, low in pairwise(limits)):
        raise ValueError(f"the least points must fall from the best to the worst (value: {limits})")
    return model


class Capacity(_Strict):
    """How many accounts can be worked: the shares of grades and levels are scaled until so many have the action."""

    action: StrictStr
    accounts: Annotated[StrictInt, Field(ge=1)]


class Matrix(_Strict):
    """The A-D by 1-4 matrix: its limits, and what is to be done in each cell."""

    fit_grades: Grades = Grades()
    engagement_levels: Levels = Field(default_factory=lambda: Levels.model_validate({}))
    capacity: Capacity | None = None
    # An account leaves its grade or level only when it is this many points past the limit.
    hysteresis_points: Annotated[StrictInt, Field(ge=0, le=1000)] = 0
    next_actions: dict[StrictStr, list[StrictStr]]

    @field_validator("engagement_levels", mode="before")
    @classmethod
    def _text_keys(cls, value: Any) -> Any:
        return {str(key): item for key, item in value.items()} if isinstance(value, dict) else value

    @field_validator("next_actions")
    @classmethod
    def _each_cell_once(cls, actions: dict[str, list[str]]) -> dict[str, list[str]]:
        named = [cell for cells in actions.values() for cell in cells]
        unknown = [cell for cell in named if cell not in CELLS]
        if unknown:
            raise ValueError(f"a cell is a grade A-D and a level 1-4 (value: {unknown[0]!r})")
        twice = [cell for cell in CELLS if named.count(cell) > 1]
        if twice:
            raise ValueError(f"the cell has two actions (value: {twice[0]!r})")
        left_out = [cell for cell in CELLS if cell not in named]
        if left_out:
            raise ValueError(f"each of the 16 cells needs an action; missing: {', '.join(left_out)}")
        return actions

    @model_validator(mode="after")
    def _capacity_is_of_an_action(self) -> Matrix:
        if self.capacity is None:
            return self
        if self.capacity.action not in self.next_actions:
            raise ValueError(
                f"capacity: no cell has this action; there are: {', '.join(self.next_actions)} (value: {self.capacity.action!r})"
            )
        if "points" in (self.fit_grades.method, self.engagement_levels.method):
            raise ValueError("capacity scales shares: write `method: shares` for grades and levels (value: 'points')")
        return self

    def action_of(self, cell: str) -> str:
        """The next action of a cell."""
        return next(action for action, cells in self.next_actions.items() if cell in cells)


class Handoff(_Strict):
    """When marketing hands an account over to sales, and how soon sales is to follow up."""

    # None: the action of the best cell, A1.
    action: StrictStr | None = None
    follow_up_days: Annotated[StrictInt, Field(ge=0, le=365)] = 2
    # Instead of days, for who answers within the hour.
    follow_up_hours: Annotated[StrictInt, Field(ge=1, le=24 * 365)] | None = None
    activities: Annotated[list[Literal["call", "meeting", "trade_fair_visit", "tender"]], Field(min_length=1)] = [
        "call",
        "meeting",
    ]

    @model_validator(mode="after")
    def _one_limit(self) -> Handoff:
        if self.follow_up_hours is not None and "follow_up_days" in self.model_fields_set:
            raise ValueError("say follow_up_days or follow_up_hours, not both")
        return self

    @property
    def hours(self) -> int:
        """How long sales has for its first follow-up."""
        return 24 * self.follow_up_days if self.follow_up_hours is None else self.follow_up_hours


class Near(_Strict):
    """A value that is not wanted itself, but close to one that is: it has a share of its points."""

    to: StrictStr
    share_pct: Share


class RoleWeights(_Strict):
    """How much of what a person does counts for the account; who is not named counts once."""

    functions: dict[StrictStr, RoleWeight] = {}
    seniorities: dict[StrictStr, RoleWeight] = {}

    @model_validator(mode="after")
    def _each_role_once(self) -> RoleWeights:
        for field in ("functions", "seniorities"):
            seen: set[str] = set()
            for name, weight in getattr(self, field).items():
                if _word(name) in seen:
                    raise ValueError(f"{field}: the role stands here twice (value: {name!r})")
                if 0 < weight < 0.001:
                    raise ValueError(f"{field}.{name}: weights are kept in thousandths (value: {weight:g})")
                seen.add(_word(name))
        return self

    def definition(self) -> dict[str, dict[str, float]]:
        """Field of a person -> value -> weight, to the thousandth; weights of one make no difference and are left out."""
        fields = {"job_function": self.functions, "seniority": self.seniorities}
        named = {
            field: {_word(name): round(weight, 3) for name, weight in sorted(weights.items()) if round(weight, 3) != 1}
            for field, weights in fields.items()
        }
        return {field: weights for field, weights in named.items() if weights}


class People(_Strict):
    """What a person is worth by function, seniority and country, how much its doings count, and who must be engaged."""

    functions: dict[StrictStr, Points] = {}
    near_functions: dict[StrictStr, Near] = {}
    seniorities: dict[StrictStr, Points] = {}
    countries: dict[StrictStr, Points] = {}
    role_weights: RoleWeights = RoleWeights()
    buying_group: list[StrictStr] = []
    engaged_days: Annotated[StrictInt, Field(ge=1, le=3650)] = 90
    # What somebody does; not what is done to people, as a mail that is sent.
    engaged_by: list[StrictStr] = [
        *("page_view", "product_page_view", "pricing_page_view", "download", "form_submission", "trial_sign_up"),
        *("opt_in", "email_clicked", "call", "meeting", "trade_fair_visit", "campaign_responded", "campaign_attended"),
    ]

    @model_validator(mode="after")
    def _near_to_something_wanted(self) -> People:
        wanted = {_word(name) for name in self.functions}
        for name, near in self.near_functions.items():
            if _word(near.to) not in wanted:
                raise ValueError(f"near_functions.{name}: `to` must be one of `functions` (value: {near.to!r})")
            if _word(name) in wanted:
                raise ValueError(f"near_functions.{name}: has points of its own in `functions` (value: {name!r})")
        return self

    def points(self) -> list[tuple[str, str, int]]:
        """Field, value and points of everything that earns a person points; derived ones rounded half up."""
        functions = {_word(name): points for name, points in self.functions.items()}
        for name, near in self.near_functions.items():
            functions[_word(name)] = math.floor(functions[_word(near.to)] * near.share_pct / 100 + 0.5)
        fields = {"job_function": functions, "seniority": self.seniorities, "country": self.countries}
        return [(field, _word(value), points) for field, values in fields.items() for value, points in values.items()]


def _word(value: str) -> str:
    return value.strip().lower()


class Hierarchy(_Strict):
    """Whether what people at the accounts below a parent do counts for the parent as well."""

    roll_up: StrictBool = False


class Campaigns(_Strict):
    """Which deals a campaign had a part in, and which source of business its cost belongs to."""

    influence_days: Annotated[StrictInt, Field(ge=1, le=1095)] = 90
    # Campaign type -> lead source.
    sources: dict[StrictStr, StrictStr] = {}


class History(_Strict):
    """How far back the marts of past scores look; the landing zone keeps all days."""

    days: Annotated[StrictInt, Field(ge=7, le=36_500)] = 400


class Forecast(_Strict):
    """How far the pipeline forecast looks, and where the year begins."""

    months: Annotated[StrictInt, Field(ge=1, le=36)] = 6
    fiscal_year_start_month: Annotated[StrictInt, Field(ge=1, le=12)] = 1
    # A category of the account; empty: what `segments.by` of the weights is made of.
    segment_by: StrictStr | None = None


class Pipeline(_Strict):
    """What is known of the way that deals go."""

    # Empty: in the order in which won deals came into them.
    stages: list[Annotated[StrictStr, Field(min_length=1)]] = []

    @field_validator("stages")
    @classmethod
    def _each_once(cls, stages: list[str]) -> list[str]:
        twice = sorted({stage for stage in stages if stages.count(stage) > 1})
        if twice:
            raise ValueError(f"each stage has one place (named twice: {', '.join(twice)})")
        return stages


class DealRisks(_Strict):
    """From when on an open deal is at risk, and on which past deals the effect of that is measured; see the template."""

    overdue_days: Annotated[StrictInt, Field(ge=0, le=365)] = 0
    silent_days: Annotated[StrictInt, Field(ge=1, le=365)] = 30
    people_days: Annotated[StrictInt, Field(ge=1, le=365)] = 90
    least_people: Annotated[StrictInt, Field(ge=2, le=20)] = 2
    pushes: Annotated[StrictInt, Field(ge=1, le=20)] = 2
    least_deals: Annotated[StrictInt, Field(ge=5)] = 20
    most_deals: Annotated[StrictInt, Field(ge=1000)] = 50_000
    months: Annotated[StrictInt, Field(ge=1, le=120)] = 36
    outcome_days: Annotated[StrictInt, Field(ge=1, le=1095)] = 120


class ScorecardSettings(_Strict):
    """The whole of `scorecard.yml`."""

    version: Literal[1]
    currency: Annotated[StrictStr, Field(pattern=r"^[A-Z]{3}$")]
    label: Label = Label()
    beliefs: Beliefs = Beliefs()
    states: States = States()
    matrix: Matrix
    handoff: Handoff = Handoff()
    history: History = History()
    people: People = People()
    hierarchy: Hierarchy = Hierarchy()
    campaigns: Campaigns = Campaigns()
    forecast: Forecast = Forecast()
    pipeline: Pipeline = Pipeline()
    deal_risks: DealRisks = DealRisks()
    segments: Segments = Segments()
    pairs: Pairs = Pairs()
    protected: Protected = Protected()
    activation: Activation = Activation()
    health: Health = Health()
    effort: Effort = Effort()
    holdout: Holdout = Holdout()
    bots: Bots = Bots()
    publish_history: Annotated[StrictInt, Field(ge=2, le=1000)] = 5
    criteria: Annotated[dict[Annotated[StrictStr, Field(pattern=r"^[a-z][a-z0-9_]*$")], Criterion], Field(min_length=1)]

    def definition_of(self, name: str) -> dict[str, Any]:
        """What decides the value of a criterion: what it says itself, and what is said once for all behaviour.

        What is not set is left out, so that a card that was fitted before keeps its keys.
        """
        criterion = self.criteria[name]
        definition = criterion.definition()
        if self.hierarchy.roll_up and (criterion.kind == "implicit" or criterion.attribute in BREADTH_ATTRIBUTES):
            definition["rolls_up"] = True
        # How long ago somebody came weighs nothing.
        if criterion.kind == "implicit" and criterion.measure == "count" and self.people.role_weights.definition():
            definition["role_weights"] = self.people.role_weights.definition()
        return definition


def protected_criteria(settings: ScorecardSettings) -> tuple[str, ...]:
    """Criteria on a protected attribute, in the order of the file, whether or not they may be used.

    An attribute is protected by its whole name, with or without `custom.`, and so is a criterion that is called like one:
    `custom.age` is the age of a person, `company_age` is not.
    """
    words = {_plain(name) for name in settings.protected.attributes}
    return tuple(
        name
        for name, criterion in settings.criteria.items()
        if name in words or (criterion.attribute is not None and _plain(criterion.attribute) in words)
    )


def _plain(attribute: str) -> str:
    return attribute.strip().lower().removeprefix("custom.").replace(" ", "_").replace("-", "_")


def fitted_criteria(settings: ScorecardSettings) -> dict[str, Criterion]:
    """The criteria that a fit uses: all, but for those on a protected attribute unless `protected: use` is true."""
    left_out = () if settings.protected.use else protected_criteria(settings)
    return {name: criterion for name, criterion in settings.criteria.items() if name not in left_out}


def settings_of(workspace: Workspace) -> ScorecardSettings:
    """The workspace's `scorecard.yml`, checked against the signals of this project's contracts: see `read_scorecard_settings`."""
    return read_scorecard_settings(workspace.scorecard_file, known_signals(load_contracts(SOURCE_CONTRACTS)))


def read_scorecard_settings(path: Path, signals: Iterable[str]) -> ScorecardSettings:
    """Read and check `scorecard.yml`.

    Parameters
    ----------
    path : Path
    signals : iterable of str
        The signals that the contracts know.

    Raises
    ------
    SettingsError
        One line per broken rule, each with file, line, key, rule and value.
    """
    settings = read_settings(path, ScorecardSettings)
    known = set(signals)
    _, lines = read_yaml_with_lines(path)
    problems = []
    for name, criterion in settings.criteria.items():
        for signal in criterion.signal_weights:
            if signal not in known:
                location: Location = ("criteria", name, "signals", signal)
                problems.append(
                    f"{path}:{line_of(lines, location)}: criteria.{name}.signals: no contract records this signal"
                    f"{_suggestion(signal, known)} (value: {signal!r})"
                )
        problem = _attribute_problem(criterion)
        if problem:
            location = ("criteria", name, "attribute")
            problems.append(
                f"{path}:{line_of(lines, location)}: criteria.{name}.attribute: {problem} (value: {criterion.attribute!r})"
            )
    for signal in settings.people.engaged_by if "engaged_by" in settings.people.model_fields_set else ():
        if signal not in known:
            problems.append(
                f"{path}:{line_of(lines, ('people', 'engaged_by'))}: people.engaged_by: no contract records this signal"
                f"{_suggestion(signal, known)} (value: {signal!r})"
            )
    problem = _segments_problem(settings)
    if problem:
        problems.append(f"{path}:{line_of(lines, ('segments', 'by'))}: segments.by: {problem}")
    problem = _forecast_problem(settings)
    if problem:
        problems.append(f"{path}:{line_of(lines, ('forecast', 'segment_by'))}: forecast.segment_by: {problem}")
    if settings.handoff.action is not None and settings.handoff.action not in settings.matrix.next_actions:
        problems.append(
            f"{path}:{line_of(lines, ('handoff', 'action'))}: handoff.action: no cell of the matrix has this action"
            f"{_suggestion(settings.handoff.action, settings.matrix.next_actions)} (value: {settings.handoff.action!r})"
        )
    if not fitted_criteria(settings):
        problems.append(
            f"{path}:{line_of(lines, ('criteria',))}: criteria: each is on a protected attribute, so that nothing is left to "
            f"learn from; write `protected: {{use: true}}` to use them (value: {', '.join(settings.criteria)})"
        )
    if problems:
        raise SettingsError(problems)
    return settings


def forecast_segment_by(settings: ScorecardSettings) -> str | None:
    """The account's attribute that forecasts and changes of the pipeline are divided by: a category or `custom.<column>`; None = none."""
    by = settings.forecast.segment_by
    if by is None and settings.segments.by is not None:
        by = settings.criteria[settings.segments.by].attribute
    return by


def _forecast_problem(settings: ScorecardSettings) -> str | None:
    by = settings.forecast.segment_by
    if by is None or by in CATEGORY_ATTRIBUTES or (by.startswith("custom.") and by != "custom."):
        return None
    return (
        "not a category of an account; a column of your own is called custom.<column>"
        f"{_suggestion(by, CATEGORY_ATTRIBUTES)} (value: {by!r})"
    )


def _segments_problem(settings: ScorecardSettings) -> str | None:
    by = settings.segments.by
    if by is None:
        return None
    if by not in settings.criteria:
        return f"not a criterion of this file{_suggestion(by, settings.criteria)} (value: {by!r})"
    if settings.criteria[by].type != "category":
        return f"segments are made by a category, not by a number (value: {by!r})"
    if by not in fitted_criteria(settings):
        return f"the criterion is on a protected attribute and is left out of the fit (value: {by!r})"
    return None


def _attribute_problem(criterion: Criterion) -> str | None:
    attribute = criterion.attribute
    if attribute is None or (attribute.startswith("custom.") and attribute != "custom."):
        return None
    if attribute in NUMBER_ATTRIBUTES and criterion.type == "category":
        return "the attribute is a number: write `type: number`"
    if attribute in CATEGORY_ATTRIBUTES and criterion.type == "number":
        return "the attribute is a category: write `type: category`"
    known = (*NUMBER_ATTRIBUTES, *CATEGORY_ATTRIBUTES)
    if attribute not in known:
        return f"not an attribute of an account; a column of your own is called custom.<column>{_suggestion(attribute, known)}"
    return None


def _suggestion(word: str, known: Iterable[str]) -> str:
    close = difflib.get_close_matches(word, list(known), n=1)
    return f"; did you mean {close[0]!r}?" if close else ""
