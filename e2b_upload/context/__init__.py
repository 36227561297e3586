"""Which files: the rules of a ``.dockerignore`` file, and the walk that keeps to them."""
