"""The study file: typed settings, techniques, reading and overriding."""
