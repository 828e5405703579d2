"""The results of a job and what a run knows of the ones before it."""
