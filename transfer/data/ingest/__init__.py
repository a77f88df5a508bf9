"""Ingest of new data into a dataset: unpack, compare, plan and report.

No module here changes a dataset; the plan lists what would change.
"""
