"""Stage 3: one shift per scene, which is measured, checked, applied once and recorded."""
