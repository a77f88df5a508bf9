"""What a champion makes of new data: drift, and an estimate of its accuracy without labels.

`reference` is what new data is held against.
"""
