"""What runs in Serve's own HTTP proxy."""
