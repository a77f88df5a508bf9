"""Train, validation and test without leaks, and cross-validation folds within train.

The split of an item depends only on its own content, or its group, and the seed.
"""
