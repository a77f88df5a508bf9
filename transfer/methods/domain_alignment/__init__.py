"""Methods that make the features of source and target alike.

A file's name is the method's key in the settings.
"""
