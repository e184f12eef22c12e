"""What zostudy costs on a GPU, in parts: see `benchmarks.gpu.__main__`."""
