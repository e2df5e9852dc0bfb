"""Messages of errors, in one line that names the key and what is allowed."""

from __future__ import annotations

import re
import shlex

from bpx.system.text import listed, masked, printable
from bpx.system.tree import CONF, RENAMED, flatten, load_option, options_of


def explain(error: BaseException) -> str:
    """Return the message of an error in one line, masked and printable; those of Hydra have up to ten lines."""
    return printable(masked(_explanation(error)))


def _explanation(error: BaseException) -> str:
    if isinstance(error, OSError) and error.filename:  # Hydra makes a missing option one, too, without a name
        return f"cannot use {error.filename}: {error.strerror}"
    if isinstance(error, MemoryError):
        return f"out of memory ({str(error) or 'no more to be had'}): a smaller network or batch_size needs less"
    text = str(error)
    option = re.search(r"Could not find '([^']+)/([^'/]+)'\s+Available options in '[^']*':\s*(.*)", text, re.DOTALL)
    if option:
        group, name, rest = option.groups()
        known = [line.strip() for line in rest.splitlines() if line.startswith("\t") or line.strip()]
        known = [k for k in known if re.fullmatch(r"[\w.-]+", k)]
        return f"{group}={name}: there is no such option; known are {listed(known)}"
    absent = re.search(r"Could not override '([^']+)'\.\s*No match in the defaults list\.[^+]*(\+\S+)", text)
    if absent:
        return f"{absent[1]} is not among the defaults: write {absent[2]}"
    unknown = re.search(r"Could not override '([^']+)'", text)
    if unknown and unknown[1] in RENAMED:
        return f"{unknown[1]} was renamed to {RENAMED[unknown[1]]}"
    append = re.search(r"To append to your config use \+(hydra\.\S+?=\{.*\})", text)
    if append:
        return f"new keys of a mapping need a plus: {shlex.quote(f'+{append[1]}')}"
    if unknown:
        return f"unknown key {unknown[1]}{similar(unknown[1])}"
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    named = re.search(r"^\s*full_key: (\S+)", text, re.MULTILINE)
    if named and lines:  # OmegaConf's: what is wrong first, then the key
        key, why = named[1], lines[0]
        if re.search(r"not in struct|Missing key", why):
            return f"{key} is missing, and no key can be taken away"
        return why if key in why else f"{key}: {why}"
    return " ".join(lines[:2]) if lines else type(error).__name__


def similar(key: str) -> str:
    """Return a hint at keys similar to ``key``, from the default configuration."""
    import difflib

    from hydra import compose, initialize_config_dir
    from hydra.core.global_hydra import GlobalHydra
    from omegaconf import OmegaConf

    if key.startswith("hydra.sweeper."):
        options = OmegaConf.load(CONF / "hydra" / "sweeper" / "bpx_optuna.yaml")
        known = ["sampler", "pruner", *(str(k) for k in options if not str(k).startswith("_") and k != "defaults")]
        return f"; hydra.sweeper has: {', '.join(known)}"
    group, _, name = key.partition(".")
    having = [option for option in options_of(group) if name in load_option(group, option)]
    if having:
        return f"; {group}={listed(having, ' or ')} has it"
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(CONF), version_base="1.3"):
        known = list(flatten(compose("config")))
    last = key.rpartition(".")[2]
    close = [k for k in known if k.rpartition(".")[2] == last] or difflib.get_close_matches(key, known, cutoff=0.5)
    return f"; did you mean {listed(close, ' or ')}?" if close else f"; known are {listed(known)}; see --help"
