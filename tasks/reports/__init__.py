"""Reports for people: pages, plots and tables.

The figures come from `transfer.evaluation`; nothing is computed here.
"""
