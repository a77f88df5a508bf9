"""Metrics of class probabilities, temperature calibration and confidence intervals.

Pure functions of arrays; metrics are averaged over items.
"""
