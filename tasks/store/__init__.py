"""The content-addressed store: same inputs, settings and code in, stored result out.

`source_digest` is how the code becomes part of the key.
"""
