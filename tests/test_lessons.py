"""The lessons run as they stand, and end in exercises."""

import warnings

import pytest
from conftest import ROOT

LESSONS = sorted((ROOT / "docs" / "lessons").glob("*.ipynb"))


@pytest.mark.slow
@pytest.mark.parametrize("path", LESSONS, ids=lambda path: path.stem)
def test_a_lesson_runs_and_ends_in_exercises(path, tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of Jupyter's own packages
        import nbformat
        from nbclient import NotebookClient

        notebook = nbformat.read(path, as_version=4)
        kept = ["".join(output.get("text", "") for output in cell.get("outputs", ())) for cell in notebook.cells]
        NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(tmp_path)}}).execute()
    last = notebook.cells[-1]
    assert last.cell_type == "markdown" and "## Exercises\n1. " in last.source
    pictures = [
        o for c in notebook.cells if c.cell_type == "code" for o in c.outputs if "image/png" in o.get("data", {})
    ]
    assert pictures and any(kept), "the notebook is committed with its outputs"


def test_there_are_three_lessons_and_the_page_names_them():
    page = (ROOT / "docs" / "lessons.md").read_text(encoding="utf-8")
    assert len(LESSONS) == 3 and all(f"(lessons/{path.name})" in page for path in LESSONS)
