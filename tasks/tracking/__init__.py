"""The only room that knows MLflow: runs, registered models and the store they live in.

Everything is logged after the fact, by run id, never through MLflow's per-thread active run.
"""
