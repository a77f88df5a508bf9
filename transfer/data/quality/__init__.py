"""What a dataset must be like to be trained on, as data.

The expectations are put to the tables by `tasks.data.expectation_suite`.
"""
