"""Every promise of docs/reliability.md names tests that are there."""

import ast
import re

from conftest import ROOT


def test_every_promise_is_held_by_a_test():
    text = (ROOT / "docs" / "reliability.md").read_text()
    rows = [line for line in text.splitlines() if line.startswith("| ") and "| held by |" not in line]
    named = [re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", row) for row in rows]
    assert len(rows) > 20 and all(named), [row for row, tests in zip(rows, named, strict=True) if not tests]
    for path, name in {test for tests in named for test in tests}:
        tree = ast.parse((ROOT / path).read_text())
        assert name in {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}, f"{path}::{name}"
