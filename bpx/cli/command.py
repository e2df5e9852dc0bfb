"""Run the task of a command: composed by Hydra, errors of the user in one line with exit code 2."""

from __future__ import annotations

import io
import os
import signal
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, NoReturn

from bpx import __version__
from bpx.cli.errors import explain, similar
from bpx.cli.overrides import Checks, prepared, sweeps_seeds
from bpx.system.errors import UserError
from bpx.system.interrupts import Stop
from bpx.system.tree import CONF, PACKAGE

if TYPE_CHECKING:
    from omegaconf import DictConfig

    from bpx.cli.terminal import Terminal

HYDRA = ("1.3.8", "1.4")  # tried from this version on, below that
ADDRESS_SPACE = 1_200_000 * 1024  # bytes
PIPE = 128 + signal.SIGPIPE  # the exit code after a closed pipe


class Answered(Exception):
    """The command line asked for help or the version, which has been printed."""


def command(
    task: Callable[[DictConfig], object], check: Checks | None = None, seed_sweeper: str | None = None
) -> Callable[[], int]:
    """Return a command that composes the configuration, runs ``task`` on it and returns the exit code.

    An integer returned by ``task`` is the exit code. ``check`` returns the check that configurations of a multirun pass
    before it starts, by default ``make_plan``; ``seed_sweeper`` names the Hydra sweeper of a multirun over seeds.
    """

    def run() -> int:
        import hydra
        from hydra.errors import HydraException
        from omegaconf.errors import OmegaConfBaseException

        full = os.environ.get("HYDRA_FULL_ERROR") == "1"
        accept_any_text()
        try:
            _look_over(task, check or _plan_check, seed_sweeper)
        except Answered:
            return 0
        except BrokenPipeError:
            return PIPE
        except UserError as error:
            print(f"error: {explain(error)}", file=sys.stderr)
            return 2
        os.environ["HYDRA_FULL_ERROR"] = "1"  # Hydra then raises errors instead of printing them
        errors: list[BaseException] = []
        code, composed = 0, False

        def guarded(config: DictConfig) -> object:
            nonlocal code, composed
            composed = True
            try:
                result = task(config)
                code = result if isinstance(result, int) else 0  # hydra.main keeps what the task returns
                return result
            except (UserError, OSError, MemoryError, HydraException, OmegaConfBaseException) as error:
                if full or _unforeseen(error):
                    raise
                errors.append(error)  # not raised: Hydra would print it as well
                return None

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
            errors.append(UserError(f"{' '.join(words) or 'Hydra'}: {type(error).__name__}: {explain(error)}"))
        except KeyboardInterrupt as error:
            return interrupted(error)
        for said in dict.fromkeys(map(explain, errors)):  # the jobs of a multirun may all say the same
            print(f"error: {said}", file=sys.stderr)
        return next((error.code for error in errors if isinstance(error, UserError)), 2) if errors else code

    return run


def run_words(task: Callable[[Sequence[str]], object], words: Sequence[str] | None, text: str) -> int:
    """Run a task on the arguments of the command line, or print the help ``text``; return the exit code."""
    given = sys.argv[1:] if words is None else words
    if set(given) & {"-h", "--help"}:
        print(text)
        return 0
    return run_cli(lambda: task(given))


def run_cli(task: Callable[[], object]) -> int:
    """Run a task and return the exit code: 2 for an error of the user, printed in one line."""
    accept_any_text()
    try:
        _check_process()
        with Stop():
            task()
    except BrokenPipeError:
        return PIPE
    except (UserError, OSError, MemoryError) as error:
        if os.environ.get("HYDRA_FULL_ERROR") == "1" or _unforeseen(error):
            raise
        print(f"error: {explain(error)}", file=sys.stderr)
        return 2
    except KeyboardInterrupt as error:
        return interrupted(error)
    return 0


def interrupted(error: KeyboardInterrupt) -> int:
    """Print the message of an interrupt and return its exit code: 130, or 143 after SIGTERM."""
    print(str(error) or "interrupted", file=sys.stderr)
    return int(128 + getattr(error, "number", signal.SIGINT))


def exit_process(code: int) -> NoReturn:
    """Exit; after an interrupt at once, without the seconds that unloading libraries takes."""
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        code = PIPE
    if code > 128:
        sys.stderr.flush()
        os._exit(code)
    sys.exit(code)


def terminal(quiet: bool = False) -> Terminal:
    """Return the console; if stdout is not a terminal, lines are neither wrapped nor cut."""
    from bpx.cli import terminal as module  # rich takes its time

    return module.Terminal(quiet)


def accept_any_text() -> None:
    """Make stdout and stderr escape characters that their encoding does not have."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def _check_process() -> None:
    """Raise UserError if no command can run: too little address space, or no working directory."""
    _check_address_space()
    try:
        os.getcwd()
    except FileNotFoundError as error:
        raise UserError("the working directory has been deleted: change to another one") from error


def _check_address_space() -> None:
    """Raise UserError if ``ulimit -v`` is below what the libraries need, which would abort.

    With a limit, Arrow's allocator is set to one that does not reserve a gigabyte.
    """
    try:
        import resource
    except ImportError:  # no POSIX
        return
    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    if limit == resource.RLIM_INFINITY:
        return
    os.environ.setdefault("ARROW_DEFAULT_MEMORY_POOL", "system")
    if limit < ADDRESS_SPACE:
        raise UserError(f"ulimit -v {limit // 1024}: at least {ADDRESS_SPACE // 1024} (kB of address space) are needed")


def _plan_check() -> Callable[[DictConfig], object]:
    from bpx.config.plan import make_plan  # the engine, theory and SciPy: not for --help

    return make_plan


def _unforeseen(error: Exception) -> bool:
    """Return whether an error is not one that the user can correct: an OSError without a file."""
    return isinstance(error, OSError) and not error.filename


def _from_hydra(error: BaseException) -> bool:
    """Return whether an error comes from Hydra: no code of bpx but this file is in its traceback."""
    import traceback

    files = {os.path.realpath(frame.filename) for frame in traceback.extract_tb(error.__traceback__)}
    own = {name for name in files if name.startswith(f"{os.path.realpath(PACKAGE)}{os.sep}")}
    return own <= {os.path.realpath(__file__)}


def _look_over(task: Callable[[DictConfig], object], check: Checks, seed_sweeper: str | None) -> None:
    """Check the arguments of the command line, and put them in the order that Hydra expects in ``sys.argv``.

    Raises UserError, and Answered if they ask for help or the version.
    """
    from hydra._internal.utils import get_args_parser  # private: tried with HYDRA

    _check_process()
    if "--version" in sys.argv[1:]:  # Hydra's parser would tell its own
        print(f"bpx {__version__}")
        raise Answered
    known, rest = get_args_parser().parse_known_args()
    overrides = known.overrides
    for word in rest:
        if word.startswith("-"):
            key = word.lstrip("-").partition("=")[0]
            raise UserError(f"{word}: keys are given as key=value, without dashes{similar(key)}")
        overrides.append(word)  # argparse takes those before and those after -m as two lists
    flags = list(sys.argv[1:])
    for word in overrides:
        flags.remove(word)
    about = sys.modules[task.__module__].__doc__ or ""
    if known.help:
        from bpx.cli.help import help_page

        print(help_page(about.splitlines()[0], overrides))
        raise Answered
    extended = bool(known.config_dir or known.config_path) or any("hydra.searchpath" in word for word in overrides)
    multirun = known.multirun or any(word.lstrip("+") == "hydra.mode=MULTIRUN" for word in overrides)
    words = prepared(overrides, multirun, extended, check, known.config_dir)
    if seed_sweeper and multirun and sweeps_seeds(overrides):
        words.append(f"hydra/sweeper={seed_sweeper}")
    sys.argv[1:] = [*words, *flags]
