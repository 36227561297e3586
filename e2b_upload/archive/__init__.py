"""Which bytes: entries become tar blocks, blocks one gzip member, and that a file on disk."""
