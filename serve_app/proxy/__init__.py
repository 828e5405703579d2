"""The part that runs in Serve's own HTTP proxy."""
