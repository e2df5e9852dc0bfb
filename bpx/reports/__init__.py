"""HTML reports: one file with a finding, tables and interactive charts, which needs no network when it is opened."""

from bpx.reports.page import Section, page, write_page

__all__ = ["Section", "page", "write_page"]
