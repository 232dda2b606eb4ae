"""Charts as inline SVG, in the colours and the typeface of the page.

Vega-Lite draws each in the colours of the light page; they are then replaced by the
names of the page's colours, so that one chart suits light, dark and print.
"""

import re
from typing import Any

import polars as pl
import vl_convert
from markupsafe import Markup

from orchestration.charts import drawable
from orchestration.report.parts import Chart

FONT = "Liberation Sans"
"""What charts are measured with; Arial and Helvetica are as wide, letter by letter."""

LIGHT = {
    "paper": "#ffffff",
    "card": "#f6f8fa",
    "ink": "#1b2026",
    "muted": "#565f69",
    "line": "#d3d9df",
    "accent": "#0b5cad",
    "pale": "#bcd8f2",
    "second": "#b24a00",
    "third": "#1f7a54",
    "fourth": "#7a49a8",
}
DARK = {
    "paper": "#14181d",
    "card": "#1c2229",
    "ink": "#e7ecf1",
    "muted": "#a3adb8",
    "line": "#39424c",
    "accent": "#74b7ff",
    "pale": "#2a4a6b",
    "second": "#f4a259",
    "third": "#63c99b",
    "fourth": "#c5a1f0",
}
SERIES = ("accent", "second", "third", "fourth")
WHOLE: dict[str, Any] = {"infer_schema_length": None}
WIDTHS = {"wide": 680, "narrow": 340}

OWN_ROLES = re.compile(
    r' (?:role|aria-[a-z]+|pointer-events|class|xmlns(?::xlink)?|version)="[^"]*"'
)
OPENING = re.compile(r'^<svg width="[\d.]+" height="[\d.]+" (viewBox="[^"]*")>')
CLIP = re.compile(r"\b(clip|gradient_)(\d+)")
COLOURS = re.compile("|".join(LIGHT.values()))
NAMES = {colour: f"var(--{name})" for name, colour in LIGHT.items()}

AXIS = {
    "labelColor": LIGHT["ink"],
    "titleColor": LIGHT["muted"],
    "gridColor": LIGHT["line"],
    "domainColor": LIGHT["line"],
    "tickColor": LIGHT["line"],
    "titleFontWeight": "normal",
    "labelFontSize": 12,
    "titleFontSize": 12,
    "titlePadding": 10,
    "labelPadding": 6,
    "labelLimit": 190,
}
CONFIG = {
    "font": FONT,
    "background": LIGHT["paper"],
    "view": {"stroke": None},
    "axis": AXIS,
    "axisY": {"domain": False, "ticks": False, "grid": False},
    "legend": {
        "orient": "top",
        "title": None,
        "labelColor": LIGHT["ink"],
        "labelFontSize": 12,
        "symbolSize": 90,
        "labelLimit": 260,
    },
    "range": {"category": [LIGHT[name] for name in SERIES]},
}


def draw(chart: Chart, name: str) -> list[tuple[str, Markup]]:
    """A chart at each of the page's widths, by its class; `name` is unique in it."""
    return [
        (width, label(vl_convert.vegalite_to_svg(spec(chart, pixels)), chart, name))
        for width, pixels in WIDTHS.items()
    ]


def spec(chart: Chart, width: int) -> dict[str, Any]:
    """The Vega-Lite specification of a chart, so many pixels wide."""
    is_narrow = width == WIDTHS["narrow"]
    narrow = {"labelLimit": 110} if is_narrow else {}
    legend = {"columns": 1} if is_narrow else {}
    return {
        "width": width,
        "height": chart.height,
        "autosize": {"type": "fit-x", "contains": "padding"},
        "padding": 0,
        "data": {"values": drawable(pl.DataFrame(chart.values, **WHOLE))},
        "layer": chart.layers,
        "config": {
            **CONFIG,
            "axis": {**AXIS, **narrow},
            "axisX": {"tickCount": 4 if is_narrow else 7},
            "legend": {**CONFIG["legend"], **legend},  # type: ignore[dict-item]
        },
    }


def label(svg: str, chart: Chart, name: str) -> Markup:
    """The drawing as one image with a title, in the colours of the page."""
    first: dict[str, str] = {}
    svg = OWN_ROLES.sub("", svg)
    svg = CLIP.sub(
        lambda found: first.setdefault(found[0], f"{name}-{found[1]}{len(first)}"), svg
    )
    svg = COLOURS.sub(lambda found: NAMES[found[0]], svg)
    title = Markup.escape(chart.title)
    return Markup(
        OPENING.sub(
            lambda found: f'<svg role="img" aria-label="{title}" {found[1]}>', svg
        )
    )
