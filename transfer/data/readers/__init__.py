"""Readers of datasets, one module per kind of dataset: class folders, a manifest file, arrays.

Each reader lists items and rejects; no reader decodes more than one item at a time.
"""
