"""A slider in JavaScript: loaded by notebooks through anywidget, and inlined by pages, from one file in `js/`.

Everything is computed in the browser from what is stored, so no kernel is asked while sliding; the values chosen are
traits, which Python can read, set and link.
"""

from __future__ import annotations

import base64
import html
import json
import math
import re
import uuid
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any, ClassVar

import anywidget
import numpy as np
import traitlets

from robustlib.calibration.checks import check_pixels

LARGEST = 2_000_000  # bytes of stored values: a page embeds them and has to stay below 5 MB
_JS = Path(__file__).parent / "js"
_IMPORT = re.compile(r'^import .* from "\./(\w+)\.js";\n', re.MULTILINE)


@cache
def module(name: str) -> str:
    """One ES module without imports: `js/<name>.js` after the files that it imports."""
    parts: dict[str, str] = {}

    def add(part: str) -> None:
        text = (_JS / f"{part}.js").read_text(encoding="utf-8")
        for needed in _IMPORT.findall(text):
            if needed not in parts:
                add(needed)
        parts[part] = re.sub(r"^export (?!default)", "", _IMPORT.sub("", text), flags=re.MULTILINE)

    add(name)
    return "\n".join(parts.values())


def packed(values: Any, dtype: str = "<f4") -> dict[str, Any]:
    """An array for JavaScript: its shape, and its bytes (little-endian float32, or "u1") in base64."""
    array = np.asarray(values)
    return {"shape": list(array.shape), "values": base64.b64encode(array.astype(dtype).tobytes()).decode("ascii")}


def packed_pixels(images: Any) -> dict[str, Any]:
    """Images (n, channels, height, width) in [0, 1] for JavaScript, as bytes."""
    return packed((check_pixels(images).cpu() * 255).round(), "u1")


def unpacked(stored: dict[str, Any], dtype: str = "<f4") -> np.ndarray:
    """The array that `packed` stored."""
    return np.frombuffer(base64.b64decode(stored["values"]), dtype).reshape(stored["shape"])


def positive(default: float) -> traitlets.Float:
    """A temperature as a trait: finite and above 0; TraitError for anything else."""
    return _Positive(default).tag(sync=True, chosen=True)


class _Positive(traitlets.Float):
    def validate(self, obj: Any, value: Any) -> float:
        value = super().validate(obj, value)
        if not (value > 0 and math.isfinite(value)):
            raise traitlets.TraitError(f"{self.name} must be finite and above 0, got {value!r}")
        return value


def offered(default: Any, choices: Callable[[dict[str, Any]], Sequence[Any]]) -> traitlets.Any:
    """A choice among what is stored, as a trait; TraitError names the choices for anything else."""
    return _Offered(default, choices).tag(sync=True, chosen=True)


class _Offered(traitlets.Any):
    def __init__(self, default: Any, choices: Callable[[dict[str, Any]], Sequence[Any]]) -> None:
        super().__init__(default)
        self.choices = choices

    def validate(self, obj: Any, value: Any) -> Any:
        stored = self.choices(obj.stored)
        for choice in stored:
            if choice == value or (isinstance(choice, float) and math.isclose(choice, value)):
                return choice
        raise traitlets.TraitError(f"{self.name} {value!r} is not stored: choose from {', '.join(map(repr, stored))}")


class Slider(anywidget.AnyWidget):
    """A slider over stored values, with a trait for each choice.

    A subclass names its `source` in `js/`, its `name` and what it is `about`, for the pages.

    Args:
        stored: what JavaScript draws from, JSON; arrays as from `packed`.
        chosen: values of the traits to begin with.

    Raises:
        ValueError: the stored values would not fit into a page.
    """

    source: ClassVar[str]
    name: ClassVar[str]
    about: ClassVar[str]
    _css = (_JS / "slider.css").read_text(encoding="utf-8")
    stored = traitlets.Dict().tag(sync=True)

    def __init_subclass__(cls, **options: Any) -> None:
        if "source" in vars(cls):  # not for the subclass that traitlets makes of each instance
            cls._esm = module(cls.source)
        super().__init_subclass__(**options)

    def __init__(self, stored: dict[str, Any], **chosen: Any) -> None:
        size = len(json.dumps(stored, allow_nan=False))
        if size > LARGEST:
            raise ValueError(
                f"{stored['title']} takes {size} bytes, more than {LARGEST}: store fewer examples or steps"
            )
        super().__init__(stored=stored, **chosen)

    @property
    def chosen(self) -> dict[str, Any]:
        """The present value of each choice."""
        return {name: getattr(self, name) for name in self.traits(chosen=True)}

    def page(self) -> str:
        """HTML that needs neither kernel nor network: style, stored values, and the module with a stand-in model."""
        name = f"rl-{uuid.uuid4().hex[:8]}"
        # "<" could end the script element that holds the values, if a sentence says "</script>"
        state = json.dumps({"stored": self.stored, **self.chosen}, separators=(",", ":")).replace("<", "\\u003c")
        start = (
            f'const state = JSON.parse(document.getElementById("{name}-state").textContent);\n'
            f'render({{ model: pageModel(state), el: document.getElementById("{name}") }});'
        )
        return (
            f'<style>{self._css}</style>\n<div class="rl-slider" id="{name}"><p>{html.escape(self.stored["title"])}: '
            "this slider needs JavaScript; the figures around it show some of its states.</p></div>\n"
            f'<script type="application/json" id="{name}-state">{state}</script>\n'
            f'<script type="module">\n{module("page")}\n{self._esm}\n{start}\n</script>'
        )

    def _repr_mimebundle_(self, **options: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        data = super()._repr_mimebundle_(**options)
        bundle, metadata = data if isinstance(data, tuple) else (data, {})
        about = {"source": self.source, "name": self.name, "title": self.stored["title"], "about": self.about}
        words = f"{self.stored['title']} (a slider: open this notebook in JupyterLab)"
        return {**bundle, "text/plain": words, "text/html": self.page()}, {**metadata, "robustlib": about}
