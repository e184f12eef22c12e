"""Data sets on the device: sources, splits and augmentation of whole batches."""
