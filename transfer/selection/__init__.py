"""Choosing among trained arms without the test split: on validation, or without any label.

Ensembles are chosen here as well.
"""
