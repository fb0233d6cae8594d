"""Mechanics of the study "is it robust, or only miscalibrated?"; the notebooks tell the story."""

__version__ = "0.1.0"
