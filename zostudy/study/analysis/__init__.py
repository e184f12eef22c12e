"""What is known of a search space without training: random choice, and what masks leave of it."""
