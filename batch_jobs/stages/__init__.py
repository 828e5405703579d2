"""What runs on the cluster: decode, edit, publish."""
