"""Pixels for small jobs, read directly without a cube: fields, plots, points."""
