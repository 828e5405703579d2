"""The tables of the documentation, generated from the code."""
