"""What every flow does beside its own work: a server, an actor, events, notifications.

The flows themselves are the files of the folder above.
"""
