"""Images: files and arrays to uint8 records of one size, and all operations on these records.

`modality` holds the object through which the rest of the project uses images.
"""
