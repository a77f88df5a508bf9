"""The steps that choose a model and read the test split.

The mathematics is `transfer.selection` and `transfer.evaluation`.
"""
