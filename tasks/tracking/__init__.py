"""The only package that uses MLflow: runs, registered models and their store.

Runs are logged after they have finished, by run id, never through MLflow's per-thread active run.
"""
