"""Names of crawlers, gateways and other programs, from the list that `crawler-user-agents` keeps, as plain text.

The list has regular expressions, nearly all of which are a name with some signs escaped. As plain text every engine finds them, and
in a fraction of the time. Which events they make is SQL (`int_bots`).
"""

from __future__ import annotations


def known_bot_agents() -> list[str]:
    """Text of which one at least is in a known bot's user agent; as written, case counts. Sorted, each once."""
    from crawleruseragents import CRAWLER_USER_AGENTS_DATA

    return sorted({text for entry in CRAWLER_USER_AGENTS_DATA for text in plain_texts(entry["pattern"])})


def plain_texts(pattern: str) -> list[str]:
    """The texts that a simple regular expression stands for; none where it is more than letters and choices of one letter.

    >>> plain_texts("Googlebot\\\\/"), plain_texts("[wW]get"), plain_texts("Spider.*com")
    (['Googlebot/'], ['wget', 'Wget'], [])
    """
    texts = [""]
    rest = pattern.removeprefix("^").removesuffix("$")
    while rest:
        if rest[0] == "\\" and len(rest) > 1 and not rest[1].isalnum():
            letters, rest = rest[1], rest[2:]
        elif rest[0] == "[" and "]" in rest and not set("^-\\") & set(rest[1 : rest.index("]")]):
            letters, rest = rest[1 : rest.index("]")], rest[rest.index("]") + 1 :]
        elif rest[0] in "\\[].*+?(){}|^$":
            return []
        else:
            letters, rest = rest[0], rest[1:]
        texts = [text + letter for text in texts for letter in letters]
    return texts
