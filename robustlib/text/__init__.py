"""Text: encoders as victims, the paper's four attacks, precision as served."""
