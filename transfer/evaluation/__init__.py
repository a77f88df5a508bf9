"""The honest comparison: the test split, read once, and what is concluded from it.

`report_schema` is the schema of what a run writes for machines.
"""
