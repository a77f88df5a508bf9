"""What happens after a model is chosen: the gate, scoring, export and monitoring.

Its sub-rooms do not know one another.
"""
