"""HTML reports: one self-contained file with a finding, tables and interactive charts."""

from bpx.reports.page import Section, page, write_page

__all__ = ["Section", "page", "write_page"]
