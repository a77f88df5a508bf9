"""The only room that knows DVC and Git: versions of datasets, and of the code.

DVC's digests are computed here without DVC, which is faster.
"""
