"""Methods that learn from unlabelled items of the target, by their own or a teacher's predictions.

A file's name is the method's key in the settings.
"""
