"""A report as one HTML file that needs nothing else: `to_html(report)`, `write_page(report, path)`."""

from ckdiff.report.page.document import Source, to_html
from ckdiff.report.page.writing import check_place, write_page

__all__ = ["Source", "check_place", "to_html", "write_page"]
