"""What can be searched: topologies, candidate operations, masks and genotypes, as data."""
