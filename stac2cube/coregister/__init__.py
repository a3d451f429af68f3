"""Stage 3: one shift per scene, measured, checked, applied once and recorded."""
