"""The steps that train: pretraining, arms, search, on threads or on a cluster.

`machine` says what this computer offers.
"""
