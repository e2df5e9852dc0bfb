"""Text for messages: one line, passwords masked, control characters escaped."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

MAX_SHOWN = 80  # characters of a value

# Up to the last @: after a colon all is a password, but in a web address digits and a slash are a port and a path.
_USER = re.compile(
    r"""(?<=://)(?!/)(?:
        (?<!http://)(?<!https://) [^\s/:'"]* : [^\s'"]* @
        | [^\s/:'"]* : (?!\d*[/?#]) [^\s'"]* @
        | [^\s/'"]* @
    )""",
    re.VERBOSE | re.IGNORECASE,
)
_SECRET = re.compile(r"(?<=[?&])(password|passwd|token|secret)=[^&\s'\"]*", re.IGNORECASE)
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")


def masked(text: str) -> str:
    """Return ``text`` without the user names and passwords of the addresses in it.

    >>> masked("http://me:secret@host:5000/ and postgresql://h/db?password=secret")
    'http://host:5000/ and postgresql://h/db?password=***'
    """
    return _SECRET.sub(r"\1=***", _USER.sub("", text))


def printable(text: str) -> str:
    r"""Return ``text`` with control characters (all but tab and newline) as escapes, for text from untrusted files.

    >>> printable("a\x1b[2Jb")
    'a\\x1b[2Jb'
    """
    return _CONTROL.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


def one_line(error: BaseException | str) -> str:
    """Return the first line of an error's message, masked and printable; its class name if it has none."""
    lines = [" ".join(line.split()) for line in str(error).splitlines() if line.strip()]
    return printable(masked(lines[0])) if lines else type(error).__name__


def listed(words: Iterable[str], between: str = ", ", most: int = 20) -> str:
    """Return words joined by ``between``, cut after ``most`` of them."""
    known = list(words)
    rest = [f"… ({len(known) - most} more)"] if len(known) > most else []
    return between.join(known[:most] + rest)


def first_few(words: Sequence[str], most: int = 6) -> str:
    """Return the first ``most`` words joined by commas, with an ellipsis if there are more."""
    return ", ".join(words[:most]) + (", …" if len(words) > most else "")


def counted(n: int, noun: str) -> str:
    """Return a count with its noun, plural unless it is 1.

    >>> counted(1, "seed"), counted(1200, "test sample")
    ('1 seed', '1,200 test samples')
    """
    return f"{n:,} {noun}{'' if n == 1 else 's'}"


def brief(value: object) -> str:
    """Return a value as text for a message: null for None, cut to MAX_SHOWN characters."""
    text = "null" if value is None else " ".join(str(value).split())
    return text if len(text) <= MAX_SHOWN else f"{text[: MAX_SHOWN - 1]}…"
