"""The one error type that a user is meant to see."""

from __future__ import annotations


class MigvisError(ValueError):
    """Something that the user can mend.

    The message is one line and says three things: what was found and where in the file, what was
    expected, and what to do next. The command line prints it to stderr and exits with 1; anything
    else that escapes is a bug.
    """
