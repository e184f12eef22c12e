"""The networks: candidate operations, supernet, stand-alone network, and their memory."""
