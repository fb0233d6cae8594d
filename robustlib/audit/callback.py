"""The audit at the end of a training by `transformers.Trainer`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from transformers import TrainerCallback

from robustlib.audit.adapters import adapt
from robustlib.audit.call import audit
from robustlib.audit.findings import Audit
from robustlib.models.forward import evaluating


class AuditCallback(TrainerCallback):
    """Audits the trained model in evaluation mode and adds the numbers to `trainer.state.log_history`.

    Args:
        texts, labels: examples that were not trained on. settings: as of `robustlib.audit`.

    Attributes:
        report: the audit, once training has ended.
    """

    def __init__(self, texts: Sequence[Any], labels: Sequence[Any], **settings: Any) -> None:
        self.texts, self.labels, self.settings = texts, labels, settings
        self.report: Audit | None = None

    def on_train_begin(
        self, args: Any, state: Any, control: Any, model: Any = None, processing_class: Any = None, **others: Any
    ) -> None:
        """Refuse before the training what could not be audited after it."""
        if processing_class is None:
            raise ValueError("the audit needs the tokenizer: Trainer(..., processing_class=tokenizer)")
        known = {key: self.settings[key] for key in ("gives", "n_classes", "class_names") if key in self.settings}
        with evaluating(model):
            adapt((model, processing_class), self.texts, self.labels, **known)

    def on_train_end(
        self, args: Any, state: Any, control: Any, model: Any = None, processing_class: Any = None, **others: Any
    ) -> None:
        """Audit the model with the tokenizer that the trainer was given as `processing_class`."""
        with evaluating(model):
            self.report = audit((model, processing_class), self.texts, self.labels, **self.settings)
        numbers = {"as_served": self.report.as_served, "at_most": self.report.at_most}
        shares = {f"audit_{name}": value.percent / 100 for name, value in numbers.items() if value is not None}
        state.log_history.append({"audit_verdict": self.report.verdict, **shares, "step": state.global_step})
