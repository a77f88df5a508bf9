"""From an image file or array to an upright square of 8-bit pixels, of one size.

`decode` is the one decode of training, prediction and serving.
"""
