"""The names of the signals: what a touchpoint can be. Derived from the contracts, so that a new event type has one
home."""

from __future__ import annotations

from collections.abc import Mapping

from orchestration.lib.contracts import Contract

#: Landed table -> (column that says what happened, prefix of the signal). `int_touchpoints` names them alike.
_SIGNAL_COLUMNS = {
    "web__events": ("event_type", ""),
    "email__events": ("event_type", "email_"),
    "social__interactions": ("interaction_type", "social_"),
    "crm__activities": ("activity_type", ""),
    "crm__campaign_members": ("member_status", "campaign_"),
}
#: An invitation is ours, not the contact's doing; an answer has no kind.
_NEVER = {"campaign_invited"}
_ALWAYS = {"nps_answered"}


def known_signals(contracts: Mapping[str, Contract]) -> set[str]:
    """Every signal that the contracts can record."""
    names = set(_ALWAYS)
    for table, (column, prefix) in _SIGNAL_COLUMNS.items():
        values = next(p.valid_values for p in contracts[table].properties if p.name == column)
        names |= {prefix + str(value) for value in values or ()}
    return names - _NEVER
