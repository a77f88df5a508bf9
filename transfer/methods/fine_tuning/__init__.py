"""Methods that start from the source's weights and train them, all or in part.

A file's name is the method's key in the settings.
"""
