"""The model registry: champion, challengers, the ledger, promotion and rollback.

All aliases of a model move together, by one process at a time.
"""
