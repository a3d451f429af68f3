"""From a query to scenes: catalogs, STAC APIs, files of items, and checks of single items."""
