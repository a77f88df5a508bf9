"""Which arms a run trains, in which order, and within which time.

`cost_history` holds what trainings and runs cost on this machine.
"""
