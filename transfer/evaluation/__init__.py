"""The unbiased comparison: metrics on the test split, read once per model, and the verdict.

`report_schema` is the schema of the reports that a run writes for programs.
"""
