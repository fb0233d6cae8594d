"""The paper's claims and ours, judged from the records."""

from robustlib.study.claims.findings import gain, illusion
