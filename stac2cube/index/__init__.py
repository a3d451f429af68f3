"""Scene indexes: searches that are stored as files and brought up to date."""
