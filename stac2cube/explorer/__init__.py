"""Interactive choice of an area and dates: a local page with a map and a calendar that writes a recipe.

The page loads nothing from other servers, unless an address of map tiles is given: its files are here, the outline of
land is from odc-geo, and this process queries the catalogs.
"""

from __future__ import annotations
