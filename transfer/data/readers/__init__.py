"""What a dataset holds, one kind of dataset a file: class folders, a manifest file, arrays.

Each reader lists items and rejects; none decodes more than one item at a time.
"""
