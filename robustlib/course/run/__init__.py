"""Running the notebooks of a profile."""
