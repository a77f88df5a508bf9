"""The steps that bring data in: scan, validate, split, ingest.

Only `expectation_suite` uses Great Expectations.
"""
