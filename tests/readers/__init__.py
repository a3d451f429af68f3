"""Other people's readers: each sees the same date, place and value as ``open_cube``."""
