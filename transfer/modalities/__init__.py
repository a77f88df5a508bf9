"""What an input is: one modality a folder, behind the interface in `interface`.

`lookup` gives a modality by its name, also one of another installed package.
"""
