"""How Sphinx builds the documentation site: sphinx-build -W docs docs/_build."""

from __future__ import annotations

import os
import re
import shutil
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import bpx

ROOT = Path(__file__).resolve().parent.parent
PAGES = {  # pages of the site that stand elsewhere in the repository, before what their own file says
    "index": "README.md",
    "studies": "experiments/README.md",
    "benchmarks": "benchmarks/README.md",
    "contributing": "CONTRIBUTING.md",
    "changelog": "CHANGELOG.md",
}
FENCED = re.compile(r"(^```.*?^```$)", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"(?<=\]\()(?!\w+:|#)([^)#\s]+)")

project, author = "bpx", "The bpx developers"
release = bpx.__version__
extensions = [
    "myst_nb",
    "numpydoc",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.viewcode",
]
exclude_patterns = ["_build", "README.md"]
html_theme, html_title, html_show_copyright = "furo", f"bpx {release}", False
highlight_language = "none"  # most blocks are commands and what they print

myst_heading_anchors = 3
nb_execution_mode = "off"  # the notebooks are kept with their outputs, and a test runs them
autosummary_generate = True
autosummary_ignore_module_all = False
autosummary_imported_members = True
autodoc_member_order = "bysource"
autodoc_mock_imports = [] if find_spec("torch") else ["torch"]  # what bpx.torch says can be read without it
numpydoc_show_class_members = False
templates_path = ["_templates"]

LITERAL = re.compile(r"(``.*?``|`[^`]+`_?)")


def escaped(line: str) -> str:
    """Return a docstring's line with the characters of its formulas (z**2, |x|, W_) as they are, not as markup."""
    parts = LITERAL.split(line)
    return "".join(part if i % 2 else re.sub(r"([*|]|_(?=\W|$))", r"\\\1", part) for i, part in enumerate(parts))


def escape(app: Any, what: str, name: str, thing: Any, options: Any, lines: list[str]) -> None:
    """Escape a docstring before numpydoc reads it."""
    lines[:] = [escaped(line) for line in lines]


def relinked(text: str, file: str) -> str:
    """Return a repository file's text with its links as the site has them, from the folder docs."""
    pages = {path: f"{page}.md" for page, path in PAGES.items()}

    def link(match: re.Match[str]) -> str:
        path = os.path.normpath(Path(file).parent / match[1])
        return pages.get(path) or os.path.relpath(path, "docs")

    parts = FENCED.split(text)
    return "".join(part if i % 2 else LINK.sub(link, part) for i, part in enumerate(parts))


def read(app: Any, page: str, source: list[str]) -> None:
    """Put the repository's file before a page's own text, and make the links those of the site."""
    file = PAGES.get(page)
    source[0] = relinked(source[0], f"docs/{page}.md")
    if file is not None:
        source[0] = relinked((ROOT / file).read_text(encoding="utf-8"), file) + "\n" + source[0]


def setup(app: Any) -> None:
    """Register both, a docstring being escaped before numpydoc reads it, and forget the pages of earlier builds."""
    app.connect("autodoc-process-docstring", escape, priority=100)
    app.connect("source-read", read)
    shutil.rmtree(ROOT / "docs" / "api", ignore_errors=True)  # a page of what is gone would be in no table of contents
