"""How good a photograph is, and what an edit did to it: pure functions of arrays."""
