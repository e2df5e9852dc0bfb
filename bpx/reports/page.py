"""The page of a report: sections of text, tables and charts, with plotly's script embedded once."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from importlib.resources import files
from pathlib import Path
from typing import final

from bpx.system.files import Json, replaced


@final
@dataclass(frozen=True)
class Section:
    """A part of a report.

    Attributes
    ----------
    title : str
        Heading.
    html : str
        Content, as HTML.
    chart : dict or None
        The data of a chart for ``report.js``: ``kind`` is metrics, layers or trials.
    folded : bool
        Whether it is collapsed at first.
    """

    title: str
    html: str = ""
    chart: Json | None = None
    folded: bool = False


def page(title: str, subtitle: str, sections: Sequence[Section]) -> str:
    """Return a report as HTML: title, ``subtitle``, and the sections that are not empty."""
    shown = [section for section in sections if section.html or section.chart]
    charts = [section.chart for section in shown if section.chart]
    body = "\n".join(_section(section, charts) for section in shown)
    script = ""
    if charts:
        from plotly.offline import get_plotlyjs  # 5 MB of script and 0.1 s, wanted here alone

        data = json.dumps(charts, allow_nan=False, separators=(",", ":")).replace("</", "<\\/")
        script = (
            f"<script>{get_plotlyjs()}</script>\n"
            f'<script type="application/json" id="data">{data}</script>\n'
            f"<script>{_resource('report.js')}</script>\n"
        )
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>{_resource('report.css')}</style></head>\n"
        f"<body><main>\n<h1>{escape(title)}</h1>\n<p class=subtitle>{escape(subtitle)}</p>\n{body}\n</main>\n"
        f"{script}</body></html>\n"
    )


def write_page(path: Path, text: str) -> Path:
    """Write a report atomically and return its path."""
    with replaced(path) as file:
        file.write(text.encode())
    return path


def table(rows: Mapping[str, Sequence[str]], head: Sequence[str] = ()) -> str:
    """Return a table as HTML: a name and its values in each row; empty without rows."""
    if not rows:
        return ""
    top = "<tr>" + "".join(f"<th>{escape(word)}</th>" for word in head) + "</tr>" if head else ""
    lines = (
        f"<tr><th>{escape(name)}</th>" + "".join(f"<td>{escape(value)}</td>" for value in values) + "</tr>"
        for name, values in rows.items()
    )
    return f"<div class=scroll><table>{top}{''.join(lines)}</table></div>"


def paragraph(text: str) -> str:
    """Return a text as HTML."""
    return f"<p>{escape(text)}</p>" if text else ""


def command(text: str) -> str:
    """Return a command as HTML."""
    return f"<pre>{escape(text)}</pre>" if text else ""


def pictures(paths: Sequence[Path]) -> str:
    """Return PNG files as HTML that holds them."""
    return "\n".join(
        f'<img alt="{escape(path.stem)}" src="data:image/png;base64,{base64.b64encode(path.read_bytes()).decode()}">'
        for path in paths
    )


def _section(section: Section, charts: list[Json]) -> str:
    chart = f'<div class=chart id="chart-{charts.index(section.chart)}"></div>' if section.chart else ""
    inside = f"{section.html}{chart}"
    if section.folded:
        return f"<details><summary>{escape(section.title)}</summary>{inside}</details>"
    return f"<section><h2>{escape(section.title)}</h2>{inside}</section>"


def _resource(name: str) -> str:
    return files("bpx.reports").joinpath(name).read_text(encoding="utf-8")
