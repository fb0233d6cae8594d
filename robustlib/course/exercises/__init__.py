"""Checks of the exercises, by lesson."""
