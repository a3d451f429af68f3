"""Stage 4: bands of 10 m and 20 m on a finer grid."""
