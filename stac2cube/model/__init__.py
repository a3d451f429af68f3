"""The nouns of the project: mission, catalog, scene, grid, area, period, cube."""
