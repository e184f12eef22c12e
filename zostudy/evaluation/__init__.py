"""Training the network of a genotype, and what that network costs."""
