"""The steps that work with a champion: monitoring, scoring, export.

None of them trains.
"""
