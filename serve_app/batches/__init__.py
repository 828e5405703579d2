"""Has the jobs of batches run: who starts them, and where; knows nothing of HTTP."""
