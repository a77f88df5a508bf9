"""From files of any kind to items divided into splits, with what is wrong with them counted.

`manifest` is the table of items that every later room reads instead of the raw dataset.
"""
