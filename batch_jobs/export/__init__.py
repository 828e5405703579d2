"""What a job made, as others take it."""
