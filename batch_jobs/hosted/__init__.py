"""The jobs of a server's batches: what OpenAI's Batch API asks for, from storage and to it."""
