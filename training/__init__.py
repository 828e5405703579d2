"""How the embedded `pocket` model was made, and how to make it again."""
