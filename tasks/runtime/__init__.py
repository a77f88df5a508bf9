"""Turns functions into steps of the chain, and holds what every step needs.

Paths, artifacts, progress, environment and formatting of numbers; no machine learning.
"""
