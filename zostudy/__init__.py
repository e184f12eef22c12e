"""Studies of neural architecture search: prune a supernet, search it, train what it finds."""

__version__ = "0.1.0"
