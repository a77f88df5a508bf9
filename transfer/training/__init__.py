"""The training loop, and the interface of the methods that it trains.

Its parts are batches, the optimiser, stored features, precision and threads.
"""
