"""One backbone a file: its name is its key in params.yaml."""
