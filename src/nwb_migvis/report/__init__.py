"""What a written file says: tables for people, and figures; and a page that grows while the work lasts."""

from nwb_migvis.report.charts import chart
from nwb_migvis.report.figures import draw_edits
from nwb_migvis.report.growing import GrowingPage
from nwb_migvis.report.page import report_path, write_report
from nwb_migvis.report.tables import group_table, sweep_table, write_groups

__all__ = [
    "GrowingPage",
    "chart",
    "draw_edits",
    "group_table",
    "report_path",
    "sweep_table",
    "write_groups",
    "write_report",
]
