"""`robustlib.audit(model, inputs, labels, ...)`: is a model's robustness real, or an illusion?

The package is called like the function in it, and so it can be called: `from robustlib import audit; audit(...)`.
"""

import sys
from types import ModuleType
from typing import Any

from robustlib.audit.findings import Accuracy, Audit, Difference, Finding, IllusionError, Rung
from robustlib.audit.subject import Subject


class _CallablePackage(ModuleType):
    """A package that hands a call on to the function of the same name."""

    def __call__(self, *arguments: Any, **options: Any) -> Audit:
        from robustlib.audit.call import audit

        return audit(*arguments, **options)


sys.modules[__name__].__class__ = _CallablePackage
