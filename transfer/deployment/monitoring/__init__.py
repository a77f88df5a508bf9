"""Monitoring of a champion on new data: drift tests, and an estimate of its accuracy without
labels.

`reference` holds the test items that new data is compared with.
"""
