"""The process that speaks HTTP: it parses, admits, decodes and encodes."""
