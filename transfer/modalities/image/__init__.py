"""Images: files and arrays to uint8 records of one size, and all that is done with these.

`modality` holds the object by which the rest of the project knows images.
"""
