"""Finished rungs in a file, so that an audit that was cut short goes on where it stood."""

from __future__ import annotations

import hashlib
import json
import math
import os
from dataclasses import asdict
from pathlib import Path

import robustlib
from robustlib.audit.case import Case
from robustlib.audit.findings import Finding, Rung, rung_from
from robustlib.audit.handed import REPLAYED, YOURS
from robustlib.audit.record import digest, plain_threat


class Store:
    """Finished rungs in a file, under a key of the examples, the threat and the clean answers."""

    def __init__(self, path: str | os.PathLike | None, case: Case) -> None:
        self.path = Path(path) if path is not None else None
        known = {**plain_threat(case.threat), "seed": case.seed, "name": case.served.subject.name}
        known["examples"] = digest(case.inputs, case.labels)
        known["clean"] = hashlib.sha256(case.clean.tobytes()).hexdigest()
        known["temperature"] = f"{case.temperature:.6g}" if math.isfinite(case.temperature) else "none"
        known["version"] = robustlib.__version__
        self.key = json.dumps(known, sort_keys=True, default=str)

    def load(self) -> tuple[dict[str, Rung], list[Finding]]:
        """Rungs of an earlier audit of the same thing, by name, and what they found."""
        if self.path is None or not self.path.exists():
            return {}, []
        kept = json.loads(self.path.read_text(encoding="utf-8"))
        if kept.get("key") != self.key:
            return {}, []
        return {row["name"]: rung_from(row) for row in kept["rungs"]}, [Finding(**row) for row in kept["findings"]]

    def save(self, rungs: list[Rung], findings: list[Finding]) -> None:
        """Write the finished rungs, all or nothing."""
        if self.path is None:
            return
        # What was handed in may be something else the next time.
        rows = [asdict(rung) for rung in rungs if rung.status == "done" and rung.name not in (YOURS, REPLAYED)]
        kept = [asdict(finding) for finding in findings if finding.name not in ("attack.failed", "attack.outside")]
        self.path.parent.mkdir(parents=True, exist_ok=True)
        beside = self.path.with_name(self.path.name + ".new")
        beside.write_text(json.dumps({"key": self.key, "rungs": rows, "findings": kept}), encoding="utf-8")
        beside.replace(self.path)
