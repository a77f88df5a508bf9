"""Methods that leave the backbone as it is and learn from its features.

A file's name is the method's key in the settings.
"""
