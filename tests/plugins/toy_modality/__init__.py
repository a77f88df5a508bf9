"""A modality of vectors of sensor readings, of another package than crosstrain.

It is made known by an entry point; nothing in crosstrain knows it.
"""
