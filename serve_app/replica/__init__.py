"""The process that has the model."""
