"""What several methods share: heads, distances, averages, phases.

Nothing here is a method, and no method imports another.
"""
