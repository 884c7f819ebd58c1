"""The rarer machine families, one a file."""
