"""Keep cubes: synchronise, update derived cubes, verify, repair, seal years."""
