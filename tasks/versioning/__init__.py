"""The only package that uses DVC and Git: versions of datasets, and of the code.

DVC's digests are computed without DVC, which is faster.
"""
