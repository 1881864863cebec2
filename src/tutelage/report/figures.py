"""What all figures share: the record, the layout, the colours.

Colours of lines are fixed and seen on light and dark ground; ink, grid and heat maps take
their colour from the page.
"""

import html
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

STUDENT, BASELINE, NEUTRAL = "#2f86c9", "#e08a1e", "#8b9199"
OTHERS = ("#2a9d7a", "#c26aa0", "#d1603d", "#7b6fd0", "#a3962b", "#4fb0c6", "#b0763f", "#6f9b3c")

POINTS = 400
"""A curve is drawn with at most this many points."""

Trace = dict[str, Any]


@dataclass(frozen=True)
class Figure:
    """One figure.

    Args:
        name: Unique in its run.
        title: What is shown.
        caption: How to read it.
        spec: ``data`` and ``layout`` for plotly.js.
        wide: Whether it takes the whole width of the page.
    """

    name: str
    title: str
    caption: str
    spec: Mapping[str, Any]
    wide: bool = False


def figure(
    name: str, title: str, caption: str, traces: Sequence[Trace], *, x: str = "", y: str = "",
    wide: bool = False, height: int = 320, **layout: Any,
) -> Figure:  # fmt: skip
    """Lay out the traces; `x` and `y` are the titles of the axes, `layout` is plotly's."""
    import plotly.graph_objects as go

    drawn = go.Figure(
        data=list(traces),
        layout={
            "template": go.layout.Template(),
            "height": height,
            "margin": {"l": 52, "r": 12, "t": 12, "b": 44},
            "xaxis": {"title": {"text": text(x)}},
            "yaxis": {"title": {"text": text(y)}},
            "showlegend": len(traces) > 1,
            "legend": {"orientation": "h", "yanchor": "bottom", "y": 1.02, "x": 0},
        },
    )
    drawn.update_layout(**layout)
    return Figure(name, title, caption, json.loads(drawn.to_json()), wide)


def line(
    name: str,
    x: Sequence[Any],
    y: Sequence[float | None],
    colour: str,
    *,
    dash: str = "solid",
    again: bool = False,
) -> list[Trace]:
    """One curve, or none where there is no value; `again` marks a further seed of a curve already there."""
    known = sum(value is not None for value in y)
    if not known:
        return []
    trace: Trace = {
        "type": "scatter",
        "mode": "lines" if known > 1 else "markers",
        "name": text(name),
        "legendgroup": text(name),
        "x": list(x),
        "y": list(y),
        "line": {"color": colour, "dash": dash, "width": 1 if again else 2},
        "marker": {"color": colour},
        "hovertemplate": "%{y:.4g} at %{x}<extra>%{fullData.name}</extra>",
    }
    return [trace | {"opacity": 0.45, "showlegend": False} if again else trace]


def thin(x: Sequence[Any], y: Sequence[float | None]) -> tuple[list[Any], list[float | None]]:
    """At most `POINTS` points, each the mean of its neighbours at their last `x`.

    Example:
        >>> thin([1, 2, 3], [0.5, None, 0.1])
        ([1, 2, 3], [0.5, None, 0.1])
    """
    size = -(-len(x) // POINTS) or 1
    starts = range(0, len(x), size)
    chunks = [[value for value in y[i : i + size] if value is not None] for i in starts]
    last = [x[min(i + size, len(x)) - 1] for i in starts]
    return last, [sum(chunk) / len(chunk) if chunk else None for chunk in chunks]


def finite(value: Any, scale: float = 1.0) -> float | None:
    """A number times `scale`; None where there is none or it is not finite."""
    return value * scale if isinstance(value, int | float) and math.isfinite(value) else None


def text(words: object, most: int = 200) -> str:
    """Plotly reads a little HTML in its texts; ours are text, cut after `most` characters.

    Example:
        >>> text("<b>cat</b>"), text("a long name", most=6)
        ('&lt;b&gt;cat&lt;/b&gt;', 'a lon…')
    """
    written = str(words)
    return html.escape(written if len(written) <= most else written[: most - 1] + "…", quote=False)
