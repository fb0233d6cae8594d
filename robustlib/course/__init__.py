"""What the notebooks are dressed in: figures, widgets, exercises, the run and its pages."""
