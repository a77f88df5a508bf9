"""One transfer method a file: its name is its key in params.yaml."""
