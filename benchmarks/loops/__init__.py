"""Training loops that are timed against one another: one a file, each with a function `train`."""
