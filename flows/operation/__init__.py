"""Crosstrain as a service: servers, deployments, schedules.

`crosstrain serve` and `crosstrain ui` start here.
"""
