"""The content-addressed store: the same inputs, settings and code give the stored result.

`source_digest` makes the source code a part of the key.
"""
