"""What all flows share: a Prefect server, the actor, events, notifications, run liveness.

The flows themselves are the modules of the parent folder.
"""
