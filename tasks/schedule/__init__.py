"""Which arms a run trains, in which order, and within which time.

`cost_history` is what earlier runs say of this machine.
"""
