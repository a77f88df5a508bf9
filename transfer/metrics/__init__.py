"""Numbers from class probabilities: figures of merit, calibration, intervals.

Pure functions of arrays, averaged over items.
"""
