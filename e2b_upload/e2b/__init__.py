"""E2B's templates: what the files of a COPY hash to, and where E2B's API wants them."""
