"""Promotion gate: rules, given as data, decide whether a challenger may become the champion.

Nothing here changes a registry.
"""
