"""Pictures of genotypes, masks, scores and the course of a search, and of whole search spaces."""
