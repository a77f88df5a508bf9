"""May a challenger become the champion? Rules as data, and the evidence they judge.

Nothing here changes a registry.
"""
