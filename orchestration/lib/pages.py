"""Pages to hand on: one HTML file each, without scripts and without any reference to the outside.

Belongs here: the parts of which a page is made, and the way from them to HTML (`templates/page.html.j2`). Does not: what a page says
(`model_card`, `forecast_report`), how plots look (`page_plots`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import jinja2

TEMPLATES = Path(__file__).parents[1] / "templates"


@dataclass(frozen=True)
class Figure:
    """A drawing: `svg` comes from `page_plots.svg_for_page` and is put in as it is."""

    caption: str
    svg: str
    note: str = ""
    is_wide: bool = False


@dataclass(frozen=True)
class Table:
    """Rows of text. The first column is the row's head; what follows a line break in it stands small below.

    Attributes
    ----------
    columns : heading, and whether it is text (left) or figures (right).
    is_hidden : shown when asked for: the figures of a drawing beside it.
    own : numbers of rows that stand out.
    """

    caption: str
    columns: Sequence[tuple[str, bool]]
    rows: Sequence[Sequence[str]]
    is_hidden: bool = False
    own: frozenset[int] = frozenset()


@dataclass(frozen=True)
class Section:
    """A part with a heading. `missing` stands in place of what there is not."""

    key: str
    title: str
    paragraphs: Sequence[str] = ()
    figures: Sequence[Figure] = ()
    tables: Sequence[Table] = ()
    points: Sequence[str] = ()
    missing: str = ""


@dataclass(frozen=True)
class Tile:
    """One figure that is seen first."""

    name: str
    value: str
    note: str = ""


@dataclass(frozen=True)
class Page:
    """A page. `tone` of the verdict is good, fair, poor or neutral; its words say the same."""

    eyebrow: str
    title: str
    lead: str
    verdict: str
    tone: str
    sentences: Sequence[str] = ()
    tiles: Sequence[Tile] = ()
    sections: Sequence[Section] = ()
    footer: str = ""


def template(name: str) -> jinja2.Template:
    """A template of the folder `templates`: whatever is put in is text, never markup."""
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        autoescape=True,  # names, labels and notes come from people
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    # A per cent sign does not leave its figure.
    environment.filters["unbroken"] = lambda text: text.replace(" %", "\u00a0%")
    return environment.get_template(name)


def page_html(page: Page) -> str:
    """The whole file."""
    return template("page.html.j2").render(page=page) + "\n"
