"""Drawings for pages and files: how every plot looks, whatever it is of.

Belongs here: colours, axes, the way from a drawing to a piece of a page or to a file. Does not: what is drawn
(`model_card_plots`, `forecast_plots`, `pipeline_plots`).
"""

from __future__ import annotations

import html
import io
import re
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from orchestration.lib.errors import UserError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

#: What is drawn in matplotlib -> the style sheet's name. The values only have to differ from each other.
COLOURS = {
    "ink": "#010101",
    "grid": "#020202",
    "card": "#030303",
    "other": "#040404",
    "paper": "#050505",
    "share-1": "#060606",
    "share-2": "#070707",
    "share-3": "#080808",
    "share-4": "#090909",
    "share-5": "#0a0a0a",
}
#: The same names on paper: what the page's style sheet says in light.
ON_PAPER = {
    "ink": "#1b2330",
    "grid": "#dde1e7",
    "card": "#1f5fc4",
    "other": "#5d6878",
    "paper": "#ffffff",
    "share-1": "#b4530a",
    "share-2": "#9c6a3c",
    "share-3": "#757880",
    "share-4": "#4a77b0",
    "share-5": "#1450b8",
}

FONT_SIZE = 9.0


def percent_axis(axes: Axes, sides: str) -> None:
    """Shares (0-1) as per cent along x, y or both ("xy")."""
    for side in sides:
        getattr(axes, f"{side}axis").set_major_formatter(lambda value, _: f"{100 * value:.0f} %")


def bare(axes: Axes, grid: str = "both", colours: Mapping[str, str] = COLOURS) -> None:
    """Only what is needed to read the figures: a fine grid, no frame."""
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    axes.spines["bottom"].set_color(colours["grid"])
    axes.tick_params(length=0)
    axes.grid(visible=True, axis=grid, color=colours["grid"], linewidth=0.7)  # type: ignore[arg-type]
    axes.set_axisbelow(True)


def svg_for_page(
    draw: Callable[[Figure], None],
    *,
    width: float,
    height: float,
    name: str,
    title: str,
    description: str,
    layout: Literal["constrained"] | None = "constrained",
) -> str:
    """A drawing as part of a page: no header, no foreign names, ids and colours of its own, a text for those who do not see it.

    Parameters
    ----------
    draw : draws with `COLOURS`
    width, height : inches; the page scales the drawing
    name : its own within the page; title, description : what is read aloud instead
    """
    from matplotlib.figure import Figure

    out = io.StringIO()
    with _plain_style(COLOURS, salt="model card"):
        figure = Figure(figsize=(width, height), layout=layout, facecolor="none")
        draw(figure)
        figure.savefig(out, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    return _for_page(out.getvalue(), name=name, title=title, description=description)


def save_drawing(
    draw: Callable[[Figure], None], file: Path, *, width: float, height: float, title: str, description: str
) -> None:
    """Write a drawing that draws with `ON_PAPER` into a .png or .svg file; both carry the description for those who do not see it.

    The same figures give the same bytes.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    is_svg = file.suffix.lower() == ".svg"
    with _plain_style(ON_PAPER, salt="chart"):
        figure = Figure(figsize=(width, height), layout="constrained", facecolor=ON_PAPER["paper"])
        FigureCanvasAgg(figure)
        draw(figure)
        known = {"Title": title, "Description": description}
        figure.savefig(file, dpi=130, metadata={**known, "Date": None} if is_svg else known)


def check_file(file: Path, suffixes: tuple[str, ...]) -> None:
    """Refuse a file of another kind, or in a folder that does not exist.

    Raises
    ------
    UserError
        One of the two.
    """
    if file.suffix.lower() not in suffixes:
        raise UserError(f"the file must end with {', '.join(suffixes[:-1])} or {suffixes[-1]} (value: {file.name})")
    if not file.absolute().parent.is_dir():
        raise UserError(f"the file's folder does not exist: {file.absolute().parent}")


@contextmanager
def _plain_style(colours: Mapping[str, str], *, salt: str) -> Iterator[None]:
    """Settings of our own: the style of the machine (a matplotlibrc of somebody) must not reach the drawing."""
    import matplotlib

    settings: Any = {
        "svg.fonttype": "none",  # text, not outlines
        "svg.hashsalt": salt,  # ids by content: the same figures, the same bytes
        "text.parse_math": False,  # a "$" in a label is a dollar
        "font.size": FONT_SIZE,
        "font.family": ["DejaVu Sans"],  # comes with matplotlib: the layout is the same on every machine
        "text.color": colours["ink"],
        "axes.labelcolor": colours["ink"],
        "axes.edgecolor": colours["grid"],
        "xtick.color": colours["ink"],
        "ytick.color": colours["ink"],
        "axes.facecolor": "none",
        "axes.unicode_minus": True,
        "path.simplify": False,
    }
    with matplotlib.rc_context(), warnings.catch_warnings():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(settings)
        # A label in a script that the font lacks is measured wrongly and still shown right: the reader's font has it.
        warnings.filterwarnings("ignore", message="Glyph .* missing")
        yield


def _for_page(drawn: str, *, name: str, title: str, description: str) -> str:
    start = drawn.index("<svg")
    text = re.sub(r"<!--.*?-->\s*", "", drawn[start:], flags=re.DOTALL)
    text = re.sub(r"<metadata>.*?</metadata>\s*", "", text, flags=re.DOTALL)
    text = re.sub(r"<defs>\s*<style.*?</style>\s*</defs>\s*", "", text, count=1, flags=re.DOTALL)
    box = re.search(r'viewBox="([^"]+)"', text)
    assert box is not None  # matplotlib always writes one
    drawing = text[text.index(">") + 1 :]
    used = set(re.findall(r'href="#([^"]+)"|url\(#([^)]+)\)', drawing))
    used_ids = {left or right for left, right in used}
    # Only inside tags: labels of people are text between them, and stay as they are.
    body = re.sub(r"<[^>]*>", lambda tag: _tag_for_page(tag[0], name, used_ids), drawing)
    body = re.sub(r"\n\s*", "\n", body)
    return (
        f'<svg viewBox="{box[1]}" role="img" aria-labelledby="{name}-title {name}-desc">'
        f'<title id="{name}-title">{html.escape(title)}</title>'
        f'<desc id="{name}-desc">{html.escape(description)}</desc>{body}'
    ).strip()


def _tag_for_page(tag: str, name: str, used_ids: set[str]) -> str:
    tag = tag.replace("xlink:href=", "href=")
    tag = re.sub(r'\s+id="([^"]*)"', lambda found: f' id="{name}-{found[1]}"' if found[1] in used_ids else "", tag)
    tag = tag.replace('href="#', f'href="#{name}-').replace("url(#", f"url(#{name}-")
    # Fonts are the page's; sizes are in the drawing's units. A hundredth of a unit is not seen.
    tag = re.sub(r"font-family: [^;\"]*;?\s*", "", tag)
    tag = re.sub(r"font: ([\d.]+px) [^;\"]*", r"font-size: \1", tag)
    tag = re.sub(r"-?\d+\.\d{3,}", lambda found: f"{float(found[0]):.2f}".rstrip("0").rstrip("."), tag)
    tag = tag.replace('transform="rotate(-0 ', 'transform="rotate(0 ')
    for colour, drawn_as in COLOURS.items():
        tag = tag.replace(drawn_as, f"var(--plot-{colour})")
    return re.sub(r"\s*\n\s*", " ", tag)
