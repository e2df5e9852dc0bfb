"""What every command shares: Hydra's composition, and errors of the user in one line with exit code 2."""

from __future__ import annotations

import os
import re
import signal
import sys
from collections.abc import Callable
from typing import Any, NoReturn

from bpx.config import CONF, UserError
from bpx.stopping import Stop


def command(task: Callable[[Any], Any]) -> Callable[[], int]:
    """Make a task on a composed configuration a command that returns its exit code: the task's, if it is a number."""

    def run() -> int:
        import hydra
        from hydra.errors import HydraException
        from omegaconf.errors import OmegaConfBaseException

        full = os.environ.get("HYDRA_FULL_ERROR") == "1"
        os.environ["HYDRA_FULL_ERROR"] = "1"  # so that errors come here rather than being printed over ten lines
        errors: list[Exception] = []
        code, composed = 0, False

        def guarded(config: Any) -> Any:
            nonlocal code, composed
            composed = True
            try:
                result = task(config)
                code = result if isinstance(result, int) else 0  # hydra.main keeps what the task returns
                return result
            except UserError as error:
                if full:
                    raise
                errors.append(error)  # Hydra would announce it with a line of its own

        try:
            hydra.main(config_path=str(CONF), config_name="config", version_base="1.3")(guarded)()
        except (HydraException, OmegaConfBaseException, UserError) as error:
            if full:
                raise
            errors.append(error)
        except ValueError as error:
            if full or composed:
                raise
            errors.append(error)  # so does Hydra call a group that is set to null
        except KeyboardInterrupt as error:
            return interrupted(error)
        for said in errors:
            print(f"error: {one_line(said)}", file=sys.stderr)
        return 2 if errors else code

    return run


def said(task: Callable[[], Any]) -> int:
    """Do a task and return the exit code: what the user got wrong is one line, and 2."""
    try:
        with Stop():
            task()
    except UserError as error:
        if os.environ.get("HYDRA_FULL_ERROR") == "1":
            raise
        print(f"error: {error}", file=sys.stderr)
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
    if code > 128:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    sys.exit(code)


def one_line(error: BaseException) -> str:
    """Return what an error says in one line: Hydra's own run over seven to ten."""
    text = str(error)
    option = re.search(r"Could not find '([^']+)/([^'/]+)'\s+Available options in '[^']*':\s*(.*)", text, re.DOTALL)
    if option:
        group, name, rest = option.groups()
        known = [line.strip() for line in rest.splitlines() if line.startswith("\t") or line.strip()]
        known = [k for k in known if re.fullmatch(r"[\w.-]+", k)]
        return f"{group}={name}: there is no such option; known are {', '.join(known)}"
    unknown = re.search(r"Could not override '([^']+)'", text)
    if unknown:
        return f"unknown key {unknown[1]}{_similar(unknown[1])}"
    group = re.search(r"Could not override '([^']+)'\.\s*No match in the defaults list", text)
    if group:
        return f"unknown group {group[1]}"
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return " ".join(lines[:2]) if lines else type(error).__name__


def _similar(key: str) -> str:
    """Return a hint at the keys that look like ``key``, from the plain configuration."""
    import difflib

    from hydra import compose, initialize_config_dir
    from hydra.core.global_hydra import GlobalHydra

    from bpx.config import flatten

    GlobalHydra.instance().clear()
    with initialize_config_dir(str(CONF), version_base="1.3"):
        known = list(flatten(compose("config")))
    close = difflib.get_close_matches(key, known, n=3, cutoff=0.5)
    return f"; did you mean {' or '.join(close)}?" if close else f"; known are {', '.join(known)}"
