"""Archives: folders of cubes on one tiling, kept by one recipe."""
