"""Names of known bots as plain text."""

from __future__ import annotations

import pytest

from orchestration.lib.bot_agents import known_bot_agents, plain_texts


@pytest.mark.parametrize(
    ("pattern", "texts"),
    [
        (r"Googlebot\/", ["Googlebot/"]),
        ("[wW]get", ["wget", "Wget"]),
        ("^sentry", ["sentry"]),
        ("Spider.*com", []),
        (r"Feed\d", []),
        ("a[b-d]", []),
        ("Ahrefs(Bot|SiteAudit)", []),
    ],
)
def test_plain_texts__are_what_the_pattern_stands_for_or_nothing(pattern: str, texts: list[str]) -> None:
    assert plain_texts(pattern) == texts


def test_known_bot_agents__find_nearly_all_that_the_list_gives_as_examples_and_no_browser() -> None:
    from crawleruseragents import CRAWLER_USER_AGENTS_DATA

    from orchestration.lib.demo_company.vocabulary import HUMAN_AGENT_COUNT, USER_AGENTS

    known = known_bot_agents()
    examples = [agent for entry in CRAWLER_USER_AGENTS_DATA for agent in entry["instances"]]
    assert len(examples) > 1_000
    found = [agent for agent in examples if any(name in agent for name in known)]
    assert len(found) > 0.98 * len(examples)
    assert not [agent for agent in USER_AGENTS[:HUMAN_AGENT_COUNT] if any(name in agent for name in known)]
