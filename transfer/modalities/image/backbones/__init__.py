"""One backbone per file; the file's name is the backbone's key in params.yaml."""
