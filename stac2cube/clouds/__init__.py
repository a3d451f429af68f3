"""Stage 2: clouds and their shadows."""
