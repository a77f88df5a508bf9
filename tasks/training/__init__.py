"""The steps that train: pretraining, arms, search, on threads or on a cluster.

`machine` decides the device, the precision and the number of workers of this computer.
"""
