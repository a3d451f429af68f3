"""The build loop (plan, schedule, fill, commit) and the common parts of derived cubes."""
