"""Results of a made-up run of two notebooks, from which a site is built."""

from __future__ import annotations

import base64
from pathlib import Path

import made_sliders as made
import nbformat
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output
from record_rows import write_made_up_records

from robustlib.study.claims.scorecard import write_scorecard

PNG = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)


LONG_FORMULA = r"$$P(c \mid x) = \frac{e^{l_c/T}}{2}" + 20 * " + l_i" + "$$"
OTHERS = ("loss_landscape", "image_replay", "text_replay", "pierce", "training_temperature", "hidden_gap")


def display(data: dict, metadata: dict | None = None) -> dict:
    return new_output("display_data", data=data, metadata=metadata or {})


def slider(name: str, **changes) -> dict:
    return display(*getattr(made, name)(**changes)._repr_mimebundle_())


def first_notebook() -> nbformat.NotebookNode:
    widget = {"text/plain": "VBox(children=(SelectionSlider()))", "application/vnd.jupyter.widget-view+json": {}}
    table = '<style scoped>td {}</style><table border="1" class="dataframe"><tr><td>1</td></tr></table>'
    return new_notebook(
        cells=[
            new_markdown_cell(
                "# 00 · A *first* lesson\n\n**One question: does PGD\nsee it?**\n\n|||\n|-|-|\n| a | b |"
            ),
            new_code_cell("profile = 'quick'", metadata={"tags": ["parameters"]}),
            new_code_cell("# Parameters\nprofile = 'smoke'", metadata={"tags": ["injected-parameters"]}),
            new_markdown_cell(f"## 1. Softmax at $T_d$\n\n{LONG_FORMULA}\n\n$x$ &"),
            new_code_cell(
                "draw()",
                outputs=[
                    new_output("stream", name="stderr", text="\r 10%|#   | bar"),
                    new_output("stream", name="stdout", text="a < b\n"),
                    display(
                        {"image/png": base64.b64encode(PNG).decode()},
                        {"image/png": {"caption": "Accuracy <under> attack", "alt": "PGD: 90 at 1, 3 at 10"}},
                    ),
                    display({"text/markdown": "It falls to **3 %**, at $T_d$; T_d = 1 is `T_d`."}),
                    display({"text/html": table}),
                    display(widget),
                ],
            ),
            new_markdown_cell(
                "The `margin` is a *margin*; margins decide, and a [margin](03_second.ipynb) is no scale-free wall."
            ),
            new_code_cell(
                "notebook.reveal(prediction, options, holds)",
                metadata={"jupyter": {"source_hidden": True}},
                outputs=[display({"text/markdown": "The measurement says: **c**."})],
            ),
            new_code_cell('step = exercises.check("2.1", step)', metadata={"tags": ["check"]}),
            new_code_cell("lab", outputs=[slider("temperature_lab_of_texts"), slider("illusion")]),
            new_code_cell("again", outputs=[slider("temperature_lab")]),
            new_code_cell("def guess(): ...", metadata={"tags": ["exercise"]}),
            new_markdown_cell("See [the next one](03_second.ipynb) and [the paper](https://arxiv.org/abs/2402.17509)."),
        ]
    )


def second_notebook() -> nbformat.NotebookNode:
    error = new_output("error", ename="ValueError", evalue="bad", traceback=["\x1b[31mValueError\x1b[0m: bad <logits>"])
    return new_notebook(
        cells=[new_markdown_cell("# 03 · Second"), new_code_cell("1 / 0", outputs=[error, *map(slider, OTHERS)])]
    )


def write_results(folder: Path) -> Path:
    """Fill a folder as a run does, and return it."""
    write_made_up_records(folder)
    write_scorecard(folder)
    (folder / "notebooks").mkdir()
    nbformat.write(first_notebook(), folder / "notebooks" / "00_first.ipynb")
    nbformat.write(second_notebook(), folder / "notebooks" / "03_second.ipynb")
    (folder / "figures").mkdir()
    (folder / "figures" / "00_first.png").write_bytes(PNG)
    return folder
