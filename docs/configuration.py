"""python docs/configuration.py: write docs/configuration.md, every group, option and key, from conf/."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml  # type: ignore[import-untyped]
from hydra.utils import get_object

from bpx.cli.help import GROUPS, comments, keys

ROOT = Path(__file__).resolve().parent.parent
CONF = ROOT / "conf"
HEAD = """# Configuration reference
Made by `python docs/configuration.py` from `conf/`; a test keeps it so.

Every key stands on the command line as `key=value`, every option of a group as `group=option`; `experiment` and
`sweep` are added with a plus: `+experiment=mnist`. A key of a group is written with the group's name before it:
`optimizer.lr=0.1`. What `null` stands for is what the code does without a value.
"""


def cell(text: Any) -> str:
    """Return a text as a table's cell."""
    return str(text).replace("|", "\\|")


def value(found: Any) -> str:
    """Return a default as it is written on the command line."""
    words = {None: "null", True: "true", False: "false"}
    return f"`{cell(words[found] if found is None or isinstance(found, bool) else found)}`"


def about(text: str, node: dict[str, Any]) -> str:
    """Return what an option is: its own first comment, else the first line of what it builds."""
    lead = [line[2:] for line in text.splitlines() if line.startswith("# ") and "@package" not in line]
    if lead:
        return lead[0]
    target = node.get("_target_")
    return (inspect.getdoc(get_object(target)) or "").split("\n")[0] if target else ""


def resolved(files: dict[str, str], stem: str) -> dict[str, Any]:
    """Return the keys of an option, with those of the option of the same group that it begins with."""
    own = yaml.safe_load(files[stem]) or {}
    bases = [entry for entry in own.get("defaults", ()) if isinstance(entry, str) and entry in files]
    return {key: value for base in bases for key, value in resolved(files, base).items()} | own


def group(name: str) -> Iterator[str]:
    """Yield the lines on a group."""
    files = {path.stem: path.read_text() for path in sorted((CONF / name).glob("*.yaml"))}
    nodes = {stem: resolved(files, stem) for stem in files}
    yield from ("", f"## `{name}`", "", "| option | |", "|---|---|")
    for stem, found in nodes.items():
        yield f"| `{stem}` | {cell(about(files[stem], found))} |"
    if name in ("experiment", "sweep"):
        return
    rows: dict[str, dict[str, list[str]]] = {}
    said: dict[str, str] = {}
    for stem, found in nodes.items():
        notes = comments(files[stem])
        for key, default in keys(found):
            rows.setdefault(key, {}).setdefault(value(default), []).append(stem)
            said[key] = said.get(key) or notes.get(key, "")
    if rows:
        yield from ("", "| key | default | |", "|---|---|---|")
    for key, defaults in rows.items():
        everywhere = len(defaults) == 1 and sum(map(len, defaults.values())) == len(nodes)
        shown = "; ".join(d if everywhere else f"{d} ({', '.join(stems)})" for d, stems in defaults.items())
        yield f"| `{name}.{key}` | {shown} | {cell(said[key])} |"


def page() -> str:
    """Return the whole page."""
    text = (CONF / "config.yaml").read_text()
    node, notes = yaml.safe_load(text), comments(text)
    chosen = {k: v for entry in node["defaults"] if isinstance(entry, dict) for k, v in entry.items()}
    lines = [HEAD.rstrip(), "", "## Outside the groups", "", "| key | default | |", "|---|---|---|"]
    lines += [f"| `{key}` | {value(default)} | {cell(notes.get(key, ''))} |" for key, default in keys(node)]
    lines += ["", "## Groups", "", "| group | option unless another is chosen |", "|---|---|"]
    lines += [f"| [`{name}`](#{name}) | {value(chosen.get(name))} |" for name in GROUPS]
    for name in GROUPS:
        lines += group(name)
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    (ROOT / "docs" / "configuration.md").write_text(page(), encoding="utf-8")
