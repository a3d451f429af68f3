"""What people make of a cube: pictures, files for other programs, reports."""
