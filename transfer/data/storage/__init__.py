"""How items and their tables lie on disk, so that any number of them fits into little memory.

Writing is in parts and atomic; reading is by rows and columns.
"""
