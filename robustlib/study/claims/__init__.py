"""The paper's claims and ours, judged from the records."""
