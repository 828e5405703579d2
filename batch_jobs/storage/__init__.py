"""The output folder, on any storage."""
