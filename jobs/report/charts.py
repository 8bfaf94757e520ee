"""Charts as plotly's own documents: data and layout. Colours come from the page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

Chart = dict[str, Any]
_BINS = 60


def funnel(counts: Mapping[str, int]) -> Chart:
    """Bars that grow shorter from step to step."""
    trace = {"type": "funnel", "y": [*counts], "x": [*counts.values()], "textinfo": "value", "hoverinfo": "y+x"}
    layout = {"showlegend": False, "height": 60 + 34 * len(counts), "margin": {"l": 190, "r": 20, "t": 10, "b": 20}}
    return {"data": [trace], "layout": layout}


def histogram(groups: Mapping[str, np.ndarray], cuts: Mapping[str, float], x_title: str) -> Chart:
    """A panel for each group of values (N,), with a line where it is cut."""
    lowest, highest = _limits([*groups.values()], list(cuts.values()))
    edges = np.linspace(lowest, highest, _BINS + 1)
    data, shapes, notes = [], [], []
    layout: Chart = {
        "showlegend": False,
        "bargap": 0.04,
        "grid": {"rows": len(groups), "columns": 1, "pattern": "independent"},
    }
    for number, (name, values) in enumerate(groups.items(), start=1):
        axis = "" if number == 1 else str(number)
        counts, _ = np.histogram(values[np.isfinite(values)], edges)
        middles = (edges[:-1] + edges[1:]) / 2
        data.append(
            {
                "type": "bar",
                "name": name,
                "x": np.round(middles, 5).tolist(),
                "y": counts.tolist(),
                "xaxis": f"x{axis}",
                "yaxis": f"y{axis}",
            }
        )
        last = number == len(groups)
        layout[f"xaxis{axis}"] = {"range": [lowest, highest], "title": {"text": x_title if last else ""}}
        layout[f"yaxis{axis}"] = {"title": {"text": name}}
        for cut in [cuts[name]] if name in cuts else []:
            shapes.append(line_at(cut, f"x{axis}", f"y{axis} domain"))
            notes.append(_note(f"cut {cut:.4g}", cut, f"x{axis}", f"y{axis} domain"))
    layout |= {"shapes": shapes, "annotations": notes, "height": 90 + 190 * len(groups)}
    return {"data": data, "layout": layout}


def curves(lines: Mapping[str, tuple[Sequence[float], Sequence[float]]], x_title: str, log_y: bool) -> Chart:
    """Lines over steps, by name: xs and ys."""
    data = [
        {"type": "scatter", "mode": "lines" if len(xs) > 40 else "lines+markers", "name": name, "x": [*xs], "y": [*ys]}
        for name, (xs, ys) in lines.items()
    ]
    layout = {"xaxis": {"title": {"text": x_title}}, "yaxis": {"type": "log" if log_y else "linear"}, "height": 340}
    return {"data": data, "layout": layout}


def grouped_bars(groups: Mapping[str, Mapping[str, float | None]], y_title: str) -> Chart:
    """A bar for each name, by group."""
    data = [{"type": "bar", "name": group, "x": [*of], "y": [*of.values()]} for group, of in groups.items()]
    return {"data": data, "layout": {"barmode": "group", "yaxis": {"title": {"text": y_title}}, "height": 320}}


def _limits(groups: Sequence[np.ndarray], cuts: Sequence[float]) -> tuple[float, float]:
    known = np.concatenate([*(values[np.isfinite(values)] for values in groups), np.array(cuts, float)])
    lowest, highest = (float(known.min()), float(known.max())) if len(known) else (0.0, 1.0)
    return (lowest, highest) if highest > lowest else (lowest - 0.5, lowest + 0.5)


def line_at(x: float, x_axis: str = "x", y_axis: str = "y domain") -> Chart:
    """A vertical line through a whole panel."""
    line = {"dash": "dash", "width": 1.5}
    return {"type": "line", "x0": x, "x1": x, "y0": 0, "y1": 1, "xref": x_axis, "yref": y_axis, "line": line}


def _note(text: str, x: float, x_axis: str, y_axis: str) -> Chart:
    place = {"x": x, "y": 1, "xref": x_axis, "yref": y_axis, "xanchor": "left", "yanchor": "top"}
    return {"text": text, "showarrow": False, "xshift": 4, **place}
