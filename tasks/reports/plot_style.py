"""The style of all plots: figures, colours, names in any script, and conversion to bytes.

This module does not change matplotlib's global state. People with colour-vision deficiency can
distinguish the colours. In an SVG, each colour is a CSS variable with the drawn colour as its
fallback, so that a page can show every plot in a dark variant.
"""

import hashlib
import io
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INK, MUTED, GRID, SURFACE = "#1c2127", "#5f6873", "#dde2e8", "#fefefe"
BLUE, VERMILLION, GREY = "#1f6fb5", "#c8501e", "#767e88"
HUES = (BLUE, VERMILLION, "#0f8a66", "#9a4b9c", "#a87500", "#2a93a8")
VARIABLES = {
    INK: "ink",
    MUTED: "muted",
    GRID: "grid",
    SURFACE: "surface",
    GREY: "baseline",
    **{hue: f"hue{number}" for number, hue in enumerate(HUES)},
}
FONT = "DejaVu Sans"  # comes with matplotlib
SMALL = 8.0  # points
MAX_NAME = 22  # characters


def figure_of(width: float, height: float, title: str) -> "Figure":
    """An empty figure, in inches, with its title at the upper left."""
    from matplotlib.figure import Figure

    fonts, missing = _fonts(set(title))
    shown = "".join(c if c.isprintable() and c not in missing else "?" for c in title)
    figure = Figure(figsize=(width, height), layout="constrained", facecolor="none")
    figure.suptitle(
        shown,
        x=0.005,
        ha="left",
        fontsize=11,
        fontweight="bold",
        fontfamily=fonts,
        color=INK,
        parse_math=False,
    )
    return figure


def strip_axes(axes: "Axes") -> "Axes":
    """Reduce the axes to what carries data: light grid lines, small labels, no box."""
    axes.set_facecolor("none")
    axes.spines[:].set_visible(False)
    axes.spines[:].set_color(GRID)
    axes.set_axisbelow(True)
    axes.grid(color=GRID, lw=0.7)
    axes.tick_params(length=0, labelsize=SMALL, labelcolor=INK, labelfontfamily=FONT)
    return axes


def label(axes: "Axes", x: str, y: str) -> None:
    """Name both axes."""
    axes.set_xlabel(x, fontsize=SMALL, color=MUTED)
    axes.set_ylabel(y, fontsize=SMALL, color=MUTED)


def percent_ticks(axes: "Axes", *sides: Literal["x", "y"]) -> None:
    """Label the ticks of shares in 0..1 in per cent."""
    for side in sides:
        axis = axes.xaxis if side == "x" else axes.yaxis
        axis.set_major_formatter(lambda share, _: f"{round(100 * share, 6):g}%")


def legend(axes: "Axes", *, above: bool = False) -> None:
    """A legend without a frame, inside or in one line above the axes."""
    place: dict[str, Any] = {"loc": "lower left", "bbox_to_anchor": (0, 1), "ncols": 4}
    axes.legend(
        frameon=False,
        fontsize=SMALL,
        labelcolor=INK,
        borderaxespad=0.2,
        **(place if above else {}),
    )


def name_ticks(
    axes: "Axes",
    side: Literal["x", "y"],
    names: Sequence[str],
    *,
    numbers: Sequence[int] | None = None,
    slanted: bool = False,
) -> None:
    """Write names at 0, 1, 2... as plain text: user data is never interpreted as mathematics.

    A long name is cut. A name that no installed font can write becomes ``#`` and its number,
    which counts from 1 if ``numbers`` is None.
    """
    shown = [_printable(name) for name in names]
    fonts, missing = _fonts({c for name in shown for c in name})
    labels = [
        f"#{number}" if missing & set(name) else name
        for number, name in zip(numbers or range(1, len(shown) + 1), shown, strict=True)
    ]
    slant: dict[str, Any] = {"rotation": 55, "rotation_mode": "anchor", "ha": "right"}
    write = axes.set_xticks if side == "x" else axes.set_yticks
    write(
        range(len(labels)),
        labels,
        fontfamily=fonts,
        parse_math=False,
        **(slant if slanted else {}),
    )


def _printable(name: str) -> str:
    shown = "".join(c if c.isprintable() else "?" for c in name)
    return shown if len(shown) <= MAX_NAME else shown[: MAX_NAME - 1] + "…"


def _fonts(characters: set[str]) -> tuple[list[str], set[str]]:
    """Font families that together can write the characters, and the characters that none can."""
    from matplotlib.font_manager import FontProperties, findfont, fontManager, get_font

    def covered(path: str) -> set[str]:
        return characters & {chr(code) for code in get_font(path).get_charmap()}

    families = [FONT]
    missing = characters - covered(findfont(FontProperties(family=FONT)))
    others = [e for e in fontManager.ttflist if "Last Resort" not in e.name] if missing else []
    for entry in sorted(others, key=lambda e: (e.name, e.fname)):
        if newly_covered := missing & covered(entry.fname):
            families.append(entry.name)
            missing = missing - newly_covered
    return families, missing


def png(figure: "Figure", dpi: int = 130) -> bytes:
    """PNG of a figure on white, for places without a style sheet."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=dpi, facecolor="white")
    return buffer.getvalue()


def svg(figure: "Figure") -> bytes:
    """SVG of a figure without a background, as an ``<svg>`` element for a page.

    The same figure gives the same bytes. Identifiers start with a digest of the plot, so that
    several plots can share a page. Comments, in which matplotlib repeats text, are removed.
    """
    buffer = io.BytesIO()
    figure.savefig(buffer, format="svg")
    text = buffer.getvalue().decode()
    text = re.sub(
        r"<!--.*?-->|<metadata>.*?</metadata>", "", text[text.index("<svg") :], flags=re.S
    )
    places = re.compile(r'(\bid="|url\(#|href="#)([^")]+)')
    own = hashlib.sha256(places.sub(r"\1", text).encode()).hexdigest()[:8]
    numbers: dict[str, int] = {}
    text = places.sub(lambda m: f"{m[1]}p{own}-{numbers.setdefault(m[2], len(numbers))}", text)
    for colour, variable in VARIABLES.items():
        text = text.replace(colour, f"var(--{variable}, {colour})")
    return text.encode()
