"""One transfer method a file, in folders by family: a file's name is its key in the settings.

`lookup` finds them, and those of installed packages; `building_blocks` is what they share.
"""
