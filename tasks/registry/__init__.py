"""The model registry: champion, challengers, the ledger, promotion and rollback.

Aliases move whole or not at all, one process at a time.
"""
