"""What can be known of a job before it runs."""
