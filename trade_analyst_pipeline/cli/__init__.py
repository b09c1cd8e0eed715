"""The `trade-analyst` command line: thin commands over the package."""
