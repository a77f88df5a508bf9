"""Methods that also train on the source's labelled items while they adapt.

A file's name is the method's key in the settings.
"""
