"""All settings, composed of the sections that live beside the code they configure.

`project` is what `params.yaml` holds; `service` is its part about a crosstrain left running.
"""
