"""What a dataset holds, one kind of dataset a file: class folders, a manifest file, arrays."""
