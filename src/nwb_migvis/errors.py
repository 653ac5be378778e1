"""The one error type that a user is meant to see, and text that a terminal shows and does not obey."""

from __future__ import annotations

from ndx_migvis.errors import MigvisError, printable, shown

__all__ = ["MigvisError", "printable", "shown"]
