"""Code that every room uses: named errors, the base class of settings, plug-in lookup, atomic
files, durations.

Nothing here depends on data, networks or training.
"""
