"""Every promise of docs/reliability.md names tests that are there, and so does what was tried."""

import ast
import re

from conftest import ROOT

PROMISES, _, TRIED = (ROOT / "docs" / "reliability.md").read_text().partition("## What was tried")


def rows(text, head):
    return [line for line in text.splitlines() if line.startswith("| ") and head not in line]


def test_every_promise_is_held_by_a_test():
    promises = rows(PROMISES, "| held by |")
    named = [re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", row) for row in promises]
    assert len(promises) > 20 and all(named), [row for row, tests in zip(promises, named, strict=True) if not tests]
    for path, name in {test for tests in named for test in tests}:
        tree = ast.parse((ROOT / path).read_text())
        assert name in {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}, f"{path}::{name}"


def test_what_was_tried_can_be_repeated():
    tried = rows(TRIED, "| how to repeat it |")
    commands = [re.findall(r"pytest (tests/[\w/.]+(?: tests/[\w/.]+)*)", row) for row in tried]
    assert len(tried) > 5 and all(commands)
    for paths in commands:
        assert all((ROOT / path).exists() for path in paths[0].split()), paths
