"""What every command shares: Hydra's composition, its console, errors of the user in one line with exit code 2."""

from __future__ import annotations

import io
import os
import re
import signal
import sys
from collections.abc import Callable
from typing import Any, NoReturn

from bpx.config import CONF, PACKAGE, RENAMED, UserError, listed
from bpx.system.interrupts import Stop
from bpx.system.text import masked, printable

PIPE = 128 + signal.SIGPIPE  # what reads us has gone


def command(task: Callable[[Any], Any]) -> Callable[[], int]:
    """Make a task on a composed configuration a command that returns its exit code: the task's, if it is a number."""

    def run() -> int:
        import hydra
        from hydra.errors import HydraException
        from omegaconf.errors import OmegaConfBaseException

        full = os.environ.get("HYDRA_FULL_ERROR") == "1"
        accept_any_text()
        try:
            _look_over(task)
        except UserError as error:
            print(f"error: {one_line(error)}", file=sys.stderr)
            return 2
        os.environ["HYDRA_FULL_ERROR"] = "1"  # so that errors come here rather than being printed over ten lines
        errors: list[BaseException] = []
        code, composed = 0, False

        def guarded(config: Any) -> Any:
            nonlocal code, composed
            composed = True
            try:
                result = task(config)
                code = result if isinstance(result, int) else 0  # hydra.main keeps what the task returns
                return result
            except (UserError, OSError, MemoryError, HydraException, OmegaConfBaseException) as error:
                if full or _unforeseen(error):
                    raise
                errors.append(error)  # Hydra would announce it with a line of its own

        try:
            hydra.main(config_path=str(CONF), config_name="config", version_base="1.3")(guarded)()
        except (HydraException, OmegaConfBaseException, UserError) as error:
            if full:
                raise
            errors.append(error)
        except BrokenPipeError:
            return PIPE
        except (OSError, MemoryError) as error:  # of hydra.run.dir, too
            if full or _unforeseen(error):
                raise
            errors.append(error)
        except (ValueError, TypeError, AssertionError, AttributeError, KeyError) as error:
            if full or composed or not _from_hydra(error):
                raise
            words = [word for word in sys.argv[1:] if word.lstrip("+~").startswith("hydra")]
            errors.append(UserError(f"{' '.join(words) or 'Hydra'}: {type(error).__name__}: {one_line(error)}"))
        except KeyboardInterrupt as error:
            return interrupted(error)
        for said in errors:
            print(f"error: {one_line(said)}", file=sys.stderr)
        return next((error.code for error in errors if isinstance(error, UserError)), 2) if errors else code

    return run


def said(task: Callable[[], Any]) -> int:
    """Do a task and return the exit code: what the user got wrong is one line, and 2."""
    accept_any_text()
    try:
        with Stop():
            task()
    except BrokenPipeError:
        return PIPE
    except (UserError, OSError, MemoryError) as error:
        if os.environ.get("HYDRA_FULL_ERROR") == "1" or _unforeseen(error):
            raise
        print(f"error: {one_line(error)}", file=sys.stderr)
        return 2
    except KeyboardInterrupt as error:
        return interrupted(error)
    return 0


def interrupted(error: KeyboardInterrupt) -> int:
    """Say what an interrupt says and return its exit code: 130, or 143 after SIGTERM."""
    print(str(error) or "interrupted", file=sys.stderr)
    return int(128 + getattr(error, "number", signal.SIGINT))


def leave(code: int) -> NoReturn:
    """End the process: at once after an interrupt, when unloading the libraries would take a second or two."""
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        code = PIPE
    if code > 128:
        sys.stderr.flush()
        os._exit(code)
    sys.exit(code)


def terminal(quiet: bool = False) -> Any:
    """Return the console: where stdout is no terminal nothing is wrapped or cut, however narrow COLUMNS is."""
    from bpx.cli.terminal import Terminal

    return Terminal(quiet)


def accept_any_text() -> None:
    """Let stdout and stderr write what their encoding has no letters for as escapes, rather than raise."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def one_line(error: BaseException) -> str:
    """Return what an error says in one line, masked and printable: Hydra's own run over seven to ten."""
    return printable(masked(_one_line(error)))


def _one_line(error: BaseException) -> str:
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
    if unknown:
        return f"unknown key {unknown[1]}{_similar(unknown[1])}"
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    named = re.search(r"^\s*full_key: (\S+)", text, re.MULTILINE)
    if named and lines:  # OmegaConf's: what is wrong first, then the key
        key, why = named[1], lines[0]
        if re.search(r"not in struct|Missing key", why):
            return f"{key} is missing, and no key can be taken away"
        return why if key in why else f"{key}: {why}"
    return " ".join(lines[:2]) if lines else type(error).__name__


def _unforeseen(error: Exception) -> bool:
    """Tell whether an error names nothing that the user could put right."""
    return isinstance(error, OSError) and not error.filename


def _from_hydra(error: BaseException) -> bool:
    """Tell whether no code of bpx took part in an error but this file."""
    import traceback

    files = {os.path.realpath(frame.filename) for frame in traceback.extract_tb(error.__traceback__)}
    own = {name for name in files if name.startswith(f"{os.path.realpath(PACKAGE)}{os.sep}")}
    return own <= {os.path.realpath(__file__)}


def _look_over(task: Callable[[Any], Any]) -> None:
    """Check the command line's words and put them in the order in which Hydra takes them; raises UserError.

    ``--help`` gets the command's own header.
    """
    from hydra._internal.utils import get_args_parser

    from bpx.cli.overrides import prepared

    try:
        os.getcwd()
    except FileNotFoundError as error:
        raise UserError("the working directory has been deleted: change to another one") from error
    known, rest = get_args_parser().parse_known_args()
    overrides = known.overrides
    for word in rest:
        if word.startswith("-"):
            key = word.lstrip("-").partition("=")[0]
            raise UserError(f"{word}: keys are given as key=value, without dashes{_similar(key)}")
        overrides.append(word)  # argparse takes those before and those behind -m as two lists
    flags = list(sys.argv[1:])
    for word in overrides:
        flags.remove(word)
    about = sys.modules[task.__module__].__doc__ or ""
    if known.help:
        header = about.splitlines()[0].replace("'", "\\'")
        sys.argv[1:] = ["--help", *overrides, f"hydra.help.header='{header}'"]
        return
    extended = bool(known.config_dir or known.config_path) or any("hydra.searchpath" in word for word in overrides)
    multirun = known.multirun or any(word.lstrip("+") == "hydra.mode=MULTIRUN" for word in overrides)
    sys.argv[1:] = [*prepared(overrides, multirun, extended), *flags]


def _similar(key: str) -> str:
    """Return a hint at the keys that look like ``key``, from the plain configuration."""
    import difflib

    from hydra import compose, initialize_config_dir
    from hydra.core.global_hydra import GlobalHydra
    from omegaconf import OmegaConf

    from bpx.config import flatten

    if key.startswith("hydra.sweeper."):
        options = OmegaConf.load(CONF / "hydra" / "sweeper" / "bpx_optuna.yaml")
        known = ["sampler", "pruner", *(str(k) for k in options if not str(k).startswith("_") and k != "defaults")]
        return f"; hydra.sweeper has: {', '.join(known)}"
    group, _, name = key.partition(".")
    files = sorted((CONF / group).glob("*.yaml")) if name.isidentifier() else []
    having = [path.stem for path in files if re.search(rf"^{name}:", path.read_text(), re.M)]
    if having:
        return f"; {group}={listed(having, ' or ')} has it"
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(CONF), version_base="1.3"):
        known = list(flatten(compose("config")))
    last = key.rpartition(".")[2]
    close = [k for k in known if k.rpartition(".")[2] == last] or difflib.get_close_matches(key, known, cutoff=0.5)
    return f"; did you mean {listed(close, ' or ')}?" if close else f"; known are {listed(known)}; see --help"
