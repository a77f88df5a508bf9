"""Storage of items and their tables on disk, so that large datasets need little memory.

Writing is in parts and atomic; reading is by rows and columns.
"""
