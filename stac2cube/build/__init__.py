"""The one build loop: plan, schedule, fill, commit; and what derived cubes have in common."""
