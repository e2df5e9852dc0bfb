"""``--help``: every group with its options, and every key with its default and one line on it."""

from __future__ import annotations

import re
import shutil
import sys
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from typing import cast

from omegaconf import OmegaConf

from bpx.system.files import Json
from bpx.system.tree import CONF, load_option, options_of, typed

GROUPS = ("model", "activation", "initializer", "normalization", "dropout", "dataset", "loss", "optimizer", "schedule",
          "probes", "tracking", "experiment", "sweep")  # fmt: skip
ADDED = ("experiment", "sweep")  # with a plus
KEY_COLUMNS = 38  # of a terminal: what is said of a key stands after them
EXAMPLES = (
    "+experiment=mnist                   an experiment",
    "activation=tanh model.depth=10      other options",
    "-m activation=relu,tanh seed=0,1,2  every combination",
    "+sweep=lr                           a search",
)


def help_page(about: str, words: Sequence[str]) -> str:
    """Return the help page of a command, with the options that ``words`` (``group=option``) choose."""
    given = dict(word.lstrip("+").partition("=")[::2] for word in words)
    main, said = option_of("", "config")
    chosen = {group: given.get(group, option) for group, option in default_options(main).items()}
    name = re.match(r"(python -m [\w.]+|bpx \w+)", about)
    example = name[1] if name else about
    lines = [about, "", *(f"  {example} {text}" for text in EXAMPLES[: 4 if "train" in example else 2])]
    lines += ["", "Groups: group=option, the present one in brackets"]
    for group in GROUPS:
        plus = "+" if group in ADDED else ""
        options = [f"[{o}]" if chosen.get(group) == o else o for o in options_of(group)]
        lines += _hanging(f"  {plus + group:15s} ", " ".join(options))
    lines += ["", "Keys: key=value, with their values now; null is what the line says, or what the code takes"]
    lines += _lines("", main, said, given)
    for group, option in chosen.items():
        if option in options_of(group):
            own, notes = option_of(group, option)
            others = [option_of(group, other)[1] for other in options_of(group)]  # which may have said it already
            said = {key: next((n[key] for n in (notes, *others) if n.get(key)), "") for key, _ in keys(own)}
            lines += _lines(f"{group}.", own, said, given)
    return "\n".join([*lines, "", "Options of Hydra itself: --hydra-help. --version, --cfg job (the composed keys)."])


def default_options(main: Json) -> dict[str, str]:
    """Return each group of the defaults list with its option."""
    return {g: o for entry in main["defaults"] if isinstance(entry, dict) for g, o in entry.items() if g in GROUPS}


def option_of(group: str, option: str) -> tuple[Json, dict[str, str]]:
    """Return the keys of an option and the comments on them, with those of its defaults."""
    own = cast(Json, OmegaConf.to_container(load_option(group, option)))
    notes = comments((CONF / group / f"{option}.yaml").read_text(encoding="utf-8"))
    for base in (entry for entry in own.get("defaults", ()) if isinstance(entry, str) and entry != "_self_"):
        notes = option_of(group, base)[1] | {key: note for key, note in notes.items() if note}
    return own, notes


def comments(text: str) -> dict[str, str]:
    """Return the comment after each key of a YAML text, by its dotted name."""
    found: dict[str, str] = {}
    path: list[str] = []
    for line in text.splitlines():
        match = re.match(r"^( *)([\w]+):(.*?)(?:\s#\s(.*))?$", line)
        if match:
            depth = len(match[1]) // 2
            path = [*path[:depth], match[2]]
            found[".".join(path)] = match[4] or ""
    return found


def keys(node: Json, prefix: str = "") -> Iterator[tuple[str, object]]:
    """Yield every key and default."""
    for key, found in node.items():
        if key in ("_target_", "defaults", "hydra"):
            continue
        if isinstance(found, dict):
            yield from keys(found, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", found


def _lines(prefix: str, node: Json, notes: Mapping[str, str], given: Mapping[str, str]) -> Iterator[str]:
    for key, value in keys(node):
        shown = given.get(f"{prefix}{key}", typed(value))
        yield from _hanging(f"  {f'{prefix}{key}={shown}':{KEY_COLUMNS - 3}s} ", notes.get(key, ""))


def _hanging(head: str, text: str) -> list[str]:
    """Return ``head`` and ``text`` in one line, in a terminal wrapped to its width, with a hanging indent."""
    if not sys.stdout.isatty():
        return [f"{head}{text}".rstrip()]
    indent = " " * min(len(head), KEY_COLUMNS)
    width = shutil.get_terminal_size().columns
    text = f"{head}{text}".strip()
    return textwrap.wrap(text, width, initial_indent="  ", subsequent_indent=indent, break_long_words=False)
