"""`robustlib.audit(model, inputs, labels, ...)`: is a model's robustness real, or an illusion?"""

from robustlib.audit.findings import Accuracy, Audit, Difference, Finding, IllusionError, Rung
from robustlib.audit.subject import Subject
