"""One training loop, and the interface of the methods that it serves.

Batches, the optimiser, kept features, precision and threads are its parts.
"""
