"""The kinds of input: one folder per modality, all behind the interface in `interface`.

`lookup` returns a modality by its name, also a modality of another installed package.
"""
