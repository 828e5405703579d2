"""The Ray that the doors run in."""
