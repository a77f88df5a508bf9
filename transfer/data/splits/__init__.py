"""Train, validation and test without leaks, and cross-validation folds within train.

An item's split depends on its own content, or its group, and the seed only.
"""
