"""Methods whose network is an average of several sets of weights.

A file's name is the method's key in the settings.
"""
