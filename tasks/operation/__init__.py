"""The steps that use a champion: monitoring, scoring, export.

None of them trains.
"""
