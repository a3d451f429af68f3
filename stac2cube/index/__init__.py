"""Scene indexes: search results that are stored as files and updated."""
