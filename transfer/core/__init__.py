"""What every room needs: named errors, the base of settings, plug-in lookup, atomic files,
durations.

Nothing here knows data, networks or training.
"""
