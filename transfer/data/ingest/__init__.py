"""New data on its way into a dataset: unpacked, compared, planned, and reported.

Nothing here changes a dataset; the plan says what would change.
"""
