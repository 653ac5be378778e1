"""What a written file says: tables for people, and figures."""

from nwb_migvis.report.figures import draw_edits
from nwb_migvis.report.tables import group_table, sweep_table

__all__ = ["draw_edits", "group_table", "sweep_table"]
