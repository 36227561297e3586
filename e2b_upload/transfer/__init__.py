"""Where to: what a presigned URL says about itself, and one PUT to it."""
