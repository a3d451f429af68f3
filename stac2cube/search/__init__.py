"""From a query to scenes: catalogs, STAC APIs, files of items, and what is wrong with single items."""
