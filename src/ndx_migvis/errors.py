"""The one error type that a user is meant to see."""

from __future__ import annotations


class MigvisError(ValueError):
    """Something that the user can fix.

    The message is one line and says three things: what was found and where in the file, what was expected,
    and what to do next. Names in a file can contain line breaks and control characters; these are replaced.
    The command line prints it to stderr and exits with 1; anything else that escapes is a bug.
    """

    def __init__(self, message: str) -> None:
        super().__init__(printable(message))


def printable(text: str) -> str:
    """Return text on one line that a terminal shows and does not obey.

    White space becomes single spaces. Any other character that is not printable becomes its Python escape,
    such as `\\x1b`.
    """
    one_line = " ".join(str(text).split())
    if one_line.isprintable():
        return one_line
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in one_line)


def shown(line: str) -> str:
    """Return a line as it is, its spaces too, or as `printable` makes it where it is not printable."""
    return line if line.isprintable() else printable(line)
