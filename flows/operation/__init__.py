"""A crosstrain that is left running: servers, deployments, schedules.

`crosstrain serve` and `crosstrain ui` start here.
"""
