"""What a run leaves for people: pages, plots, tables.

Figures come from `transfer.evaluation`; nothing is computed here.
"""
