"""Methods that read the source's labelled items again while they adapt.

A file's name is the method's key in the settings.
"""
