"""All settings, composed of the sections that live beside the code they configure.

`project` has the settings of `params.yaml`; `service` is their part for `crosstrain serve`.
"""
