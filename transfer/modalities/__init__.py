"""One modality a file or folder: suffixes, decoding, input specification, augmentation."""
