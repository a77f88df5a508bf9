"""What happens after a model is chosen: the gate, scoring, export and monitoring.

Its sub-packages do not import one another.
"""
