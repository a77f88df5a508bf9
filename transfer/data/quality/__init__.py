"""Requirements that a dataset must meet before training, given as data.

`tasks.data.expectation_suite` checks the expectations on the tables.
"""
