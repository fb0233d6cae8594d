"""The static site: whole links, no outside requests, readable formulas, and numbers in JavaScript that are Python's."""

from __future__ import annotations

import base64
import json
import re
import shutil
from functools import cache
from html.parser import HTMLParser
from pathlib import Path

import nbformat
import numpy as np
import pytest
import torch
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from robustlib.attacks.diagnostics import masking
from robustlib.attacks.scores import DLR, CrossEntropy, Margin
from robustlib.calibration.metrics import calibration_report
from robustlib.course.run.runner import report
from robustlib.course.site import build_site, main
from robustlib.course.site.interactive import load_interactive, save_landscape, save_temperature
from robustlib.course.site.markdown import formula, to_html
from robustlib.data.folders import repository_root
from robustlib.study.claims.findings import HONEST
from robustlib.study.claims.scorecard import write_scorecard
from robustlib.study.records import RecordBook

PNG = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)
CLASSES = ["cat", "dog", "<fish>"]


def display(data: dict) -> dict:
    return new_output("display_data", data=data)


def first_notebook() -> nbformat.NotebookNode:
    widget = {"text/plain": "VBox(children=(SelectionSlider()))", "application/vnd.jupyter.widget-view+json": {}}
    table = '<style scoped>td {}</style><table border="1" class="dataframe"><tr><td>1</td></tr></table>'
    return new_notebook(
        cells=[
            new_markdown_cell(
                "# 00 · A *first* lesson\n\n**One question: does PGD\nsee it?**\n\n"
                "| | |\n|---|---|\n| **Time** | 3 min |"
            ),
            new_code_cell("profile = 'quick'", metadata={"tags": ["parameters"]}),
            new_code_cell("# Parameters\nprofile = 'smoke'", metadata={"tags": ["injected-parameters"]}),
            new_markdown_cell(
                r"## 1. Softmax at $T_d$" + "\n\n" + r"$$P(c \mid x) = \frac{e^{l_c/T}}{2}$$" + "\n\n$x$ &"
            ),
            new_code_cell(
                "draw()",
                outputs=[
                    new_output("stream", name="stderr", text="\r 10%|#   | bar"),
                    new_output("stream", name="stdout", text="a < b\n"),
                    display({"image/png": base64.b64encode(PNG).decode()}),
                    display({"text/markdown": "It falls to **3 %**, at $T_d$."}),
                    display({"text/html": table}),
                    display(widget),
                ],
            ),
            new_code_cell('step = exercises.check("2.1", step)', metadata={"tags": ["check"]}),
            new_markdown_cell("See [the next one](03_second.ipynb) and [the paper](https://arxiv.org/abs/2402.17509)."),
        ]
    )


def second_notebook() -> nbformat.NotebookNode:
    error = new_output("error", ename="ValueError", evalue="bad", traceback=["\x1b[31mValueError\x1b[0m: bad <logits>"])
    return new_notebook(cells=[new_markdown_cell("# 03 · Second"), new_code_cell("1 / 0", outputs=[error])])


def made_up_records() -> None:
    book = RecordBook("00_first", profile="smoke", seed=0, modality="image")
    setting = {"dataset": "digits", "model": "cnn", "attack": "pgd", "norm": "linf", "epsilon": 0.1}
    for method, temperature, adversary, right in (
        ("baseline", 1.0, "none", 20),
        ("conf_up(T_d<<1)", 0.001, "none", 90),
        ("conf_up(T_d<<1)", 0.001, "cal-exact", 20),
    ):
        served = setting | {"method": method, "design_temperature": temperature, "adversary": adversary}
        book.add_accuracy(np.arange(100) < right, **served)
        measured = {"n": 100, "mean": right - 20, "low": right - 30, "high": right - 10}
        book.add(metric="accuracy_difference", **HONEST.columns, **served, **measured)
    book.save()


@pytest.fixture(scope="module")
def logits() -> torch.Tensor:
    """(60, 3), some rows with a large gap, so that each wall has examples on both sides at T = 0.1."""
    scale = torch.logspace(-1, 2, 60).unsqueeze(1)
    return torch.randn(60, 3, generator=torch.Generator().manual_seed(0)) * scale


@pytest.fixture(scope="module")
def labels(logits) -> torch.Tensor:
    wrong = torch.arange(len(logits)) % 4 == 0
    return torch.where(wrong, (logits.argmax(dim=1) + 1) % 3, logits.argmax(dim=1))


@pytest.fixture(scope="module")
def grid(logits) -> torch.Tensor:
    """(7, 7, 1, 3): the true class leads by up to 40 on the left, by nothing on the right."""
    along = torch.linspace(40, -5, 7).reshape(7, 1, 1).expand(7, 7, 1)
    tilt = torch.linspace(0, 0.3, 7).reshape(1, 7, 1)
    zeros = torch.zeros(7, 7, 1)
    return torch.cat([along + tilt, zeros, zeros - 1.0], dim=2).unsqueeze(2)


@pytest.fixture(scope="module")
def results(tmp_path_factory, logits, labels, grid):
    parent = tmp_path_factory.mktemp("results")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ROBUSTLIB_RESULTS", str(parent))
        common = {"profile": "smoke", "class_names": CLASSES, "title": "made up"}
        save_temperature(
            "image",
            notebook="00",
            logits=logits,
            labels=labels,
            examples=[3, 1],
            sentences=["</script><b>dull</b>", "fine & good"],
            adversarial_accuracy={"naive": [(1.0, 20.0), (0.001, 90.0)]},
            **common,
        )
        save_landscape(
            "input",
            notebook="03",
            logits=grid,
            labels=[0],
            coordinates=np.linspace(-2, 2, 7),
            axes=("towards (epsilon)", "random (epsilon)"),
            **common,
            paths=[(1.0, [[0, 0], [0.5, 0.1]]), (None, [[0, 0], [1, 0]])],
        )
        made_up_records()
    folder = parent / "smoke"
    write_scorecard(folder)
    (folder / "notebooks").mkdir()
    nbformat.write(first_notebook(), folder / "notebooks" / "00_first.ipynb")
    nbformat.write(second_notebook(), folder / "notebooks" / "03_second.ipynb")
    (folder / "figures").mkdir()
    (folder / "figures" / "00_first.png").write_bytes(PNG)
    return folder


@pytest.fixture(scope="module")
def site(results) -> Path:
    return build_site(results).parent


def text_of(site: Path, page: str) -> str:
    return (site / page).read_text(encoding="utf-8")


class Page(HTMLParser):
    """Addresses that a page names (`links` to go to, `parts` it loads by itself), its ids and its tags."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.links, self.parts, self.ids, self.tags = [], [], [], []
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attributes):
        named = dict(attributes)
        self.tags.append((tag, named))
        if "id" in named:
            self.ids.append(named["id"])
        for name in ("href", "src"):
            if name in named:
                (self.links if tag == "a" else self.parts).append(named[name])


def pages(site: Path) -> dict[str, Page]:
    return {path.name: Page(path) for path in site.glob("*.html")}


# --- pages -----------------------------------------------------------------------------------------------------


def test_the_site_has_an_index_a_page_a_notebook_and_a_page_a_slider(site):
    expected = {"index.html", "00_first.html", "03_second.html", "temperature-image.html", "landscape-input.html"}
    assert set(pages(site)) == expected
    assert expected - {"index.html"} <= set(pages(site)["index.html"].links)


def test_every_link_leads_somewhere(site):
    read = pages(site)
    for name, page in read.items():
        assert len(page.ids) == len(set(page.ids)), f"{name} has an id twice"
        for address in [*page.links, *page.parts]:
            if address.startswith(("https:", "data:")):
                continue
            file, _, section = address.partition("#")
            assert (site / (file or name)).is_file(), f"{name} links to {address}"
            assert not section or section in read[file or name].ids, f"{name} links to {address}"


def test_nothing_is_asked_from_outside(site):
    for page in pages(site).values():
        assert all(not re.match(r"(?!data:)[a-z]+:|//", address) for address in page.parts)
    for path in site.rglob("*"):
        if path.suffix in (".html", ".css", ".js"):
            text = re.sub(r'<a href="https://[^"]+"', "<a", path.read_text(encoding="utf-8"))
            assert not re.search(r"https?://|@import|fetch\(|XMLHttpRequest", text), path.name


def test_no_page_tells_where_it_was_built(site, results):
    for path in site.rglob("*.*"):
        content = path.read_bytes()
        assert str(results).encode() not in content and str(Path.home()).encode() + b"/" not in content, path.name


def test_every_page_is_for_phones_and_the_keyboard(site):
    for name, page in pages(site).items():
        assert ("html", {"lang": "en"}) in page.tags, name
        assert any(tag == "meta" and "width=device-width" in (named.get("content") or "") for tag, named in page.tags)
        assert page.links[0] == "#content" and "content" in page.ids, f"{name} has no skip link"
        for tag, named in page.tags:
            if tag == "img":
                assert named["alt"], f"{name}: a picture without words"
            if tag == "input" and named["type"] == "range":
                assert ("label", {"for": named["id"]}) in page.tags


def test_a_lesson_shows_prose_figures_and_tables_but_no_leftovers_of_a_kernel(site):
    page = text_of(site, "00_first.html")
    assert "a &lt; b" in page
    assert '<img src="figures/00_first-1.png" width="1" height="1" alt="Figure 1. It falls' in page
    assert (site / "figures" / "00_first-1.png").read_bytes() == PNG
    for leftover in ("VBox", "vnd.jupyter", "bar</pre>", "10%", "<style", "# Parameters", "&#39;quick&#39;"):
        assert leftover not in page, leftover
    assert page.count('<div class="scroll" tabindex="0" role="region" aria-label="table"><table') == 2
    assert "<thead>" not in page  # the table of facts has an empty one
    assert re.search(r'This widget needs a running notebook.*<a href="temperature-image.html">', page)
    folded = page.split('<details class="solution"><summary>Sample solution</summary>')[1].split("</details>")[0]
    assert re.sub("<[^>]+>", "", folded).strip().startswith("def step(current, image, gradient, step_size, epsilon):")


def test_lessons_lead_to_each_other_and_to_the_index(site):
    read = pages(site)
    assert ("a", {"rel": "next", "href": "03_second.html"}) in read["00_first.html"].tags
    assert ("a", {"rel": "prev", "href": "00_first.html"}) in read["03_second.html"].tags
    assert not any(named.get("rel") == "prev" for _, named in read["00_first.html"].tags)
    assert read["00_first.html"].links.count("03_second.html") >= 3  # menu, next lesson, and the link in the prose


def test_a_failed_notebook_is_shown_as_failed(site):
    assert "ValueError: bad &lt;logits&gt;" in text_of(site, "03_second.html")
    assert text_of(site, "index.html").count("failed in this run") == 1


def test_the_index_shows_headline_and_verdicts_from_the_records(site):
    index = text_of(site, "index.html")
    assert "90.0 [82.6, 94.5]" in index and "served at T_d = 0.001" in index
    assert "Does PGD see it?" in index
    row = index.split('<tr id="C1-image">')[1].split("</tr>")[0]
    assert "+70.0 [+60.0, +80.0]" in row and '<span class="verdict' in row
    assert "a claim about words: C6" in index.split('class="untested"')[1]


def test_without_notebooks_there_is_an_index_with_the_figures(results, tmp_path):
    folder = tmp_path / "published"
    for name in ("records", "figures"):
        shutil.copytree(results / name, folder / name)
    index = build_site(folder, tmp_path / "elsewhere")
    assert index == tmp_path / "elsewhere" / "index.html"
    assert [path.name for path in index.parent.glob("*.html")] == ["index.html"]
    assert '<img src="figures/00_first.png"' in index.read_text(encoding="utf-8")
    assert not (folder / "site").exists()


def test_an_empty_results_folder_gives_an_index_that_says_so(tmp_path):
    assert "No records yet" in build_site(tmp_path).read_text(encoding="utf-8")


def test_a_page_that_would_be_too_large_is_refused_and_the_last_site_stays(results, site, monkeypatch):
    before = text_of(site, "index.html")
    monkeypatch.setattr("robustlib.course.site.build.LARGEST_PAGE", 3000)
    with pytest.raises(ValueError, match=r"00_first.html would take \d+ bytes, more than 3000"):
        build_site(results)
    assert text_of(site, "index.html") == before
    assert not list(results.glob(".site-*"))


def test_pages_stay_below_five_megabytes_with_the_largest_file_there_may_be(results, monkeypatch):
    monkeypatch.setenv("ROBUSTLIB_RESULTS", str(results.parent))
    large = {"logits": torch.zeros(31, 31, 512, 10), "labels": torch.zeros(512, dtype=torch.long)}
    large |= {"coordinates": np.linspace(-1, 1, 31), "class_names": list("abcdefghij"), "profile": "largest"}
    path = save_landscape("weights", **GRID | large)
    index = build_site(path.parent.parent)
    page = index.parent / "landscape-weights.html"
    assert 1_000_000 < page.stat().st_size < 5_000_000
    assert re.search(r"Mean over \d\d of 512 examples", page.read_text(encoding="utf-8"))


# --- the command and the run -----------------------------------------------------------------------------------


def test_the_command_says_where_the_site_is_or_what_is_missing(results, tmp_path, capsys):
    assert main(["--results", str(results)]) == 0
    assert capsys.readouterr().out.strip() == str(results / "site" / "index.html")
    assert main(["--results", str(tmp_path / "none")]) == 2
    assert "no results in" in capsys.readouterr().err


def test_a_folder_with_other_files_is_not_replaced(results, tmp_path):
    (tmp_path / "thesis.tex").touch()
    with pytest.raises(ValueError, match="holds something else than a site"):
        build_site(results, tmp_path)
    assert (tmp_path / "thesis.tex").exists()


def test_a_run_survives_a_site_that_cannot_be_built(results, tmp_path, capsys):
    shutil.copytree(results / "interactive", tmp_path / "interactive")
    (tmp_path / "interactive" / "temperature-image.json").write_text("{")
    report(tmp_path)
    assert re.search(r"No pages: ValueError: .*temperature-image.json is damaged", capsys.readouterr().out)


# --- formulas --------------------------------------------------------------------------------------------------


def test_formulas_become_mathml(site):
    page = text_of(site, "00_first.html")
    assert "<mfrac>" in page and "<msub><mi>T</mi><mi>d</mi></msub>" in page
    assert "$" not in re.sub(r"<script.*?</script>", "", page, flags=re.DOTALL) and "\\frac" not in page


@pytest.mark.parametrize(
    ("latex", "mathml"),
    [
        (r"p = \mathrm{softmax}(l/T)", "<mtext>softmax</mtext>"),
        ("l_{other}", "<mtext>other</mtext>"),
        (r"\left(<x", r"<code>\left(&lt;x</code>"),
    ],
    ids=["roman", "subscript", "cannot be converted"],
)
def test_words_stay_whole_and_what_cannot_be_converted_is_shown_as_written(latex, mathml):
    assert mathml in formula(latex)


def test_a_link_to_a_notebook_that_has_a_page_leads_there():
    body = to_html("[a](../notebooks/01_x.ipynb#part) [b](02_y.ipynb)", pages={"01_x.ipynb": "01_x.html"})
    assert 'href="01_x.html#part"' in body and 'href="02_y.ipynb"' in body


# --- stored numbers --------------------------------------------------------------------------------------------


def test_stored_logits_keep_every_bit(results, logits, grid):
    temperature, landscape = load_interactive(results)
    for stored, original in ((temperature, logits), (landscape, grid)):
        values = np.frombuffer(base64.b64decode(stored["logits"]["values"]), dtype="<f4")
        assert (values.reshape(stored["logits"]["shape"]) == original.numpy()).all()


def test_pictures_are_stored_as_bytes(tmp_path, monkeypatch):
    monkeypatch.setenv("ROBUSTLIB_RESULTS", str(tmp_path))
    picture = np.linspace(0, 1, 12).reshape(1, 3, 2, 2)
    path = save_temperature("picture", **GOOD, pictures=picture)
    stored = json.loads(path.read_text())["pictures"]
    assert stored["shape"] == [1, 3, 2, 2]
    assert list(base64.b64decode(stored["values"])) == np.round(picture * 255).astype(int).ravel().tolist()


PAGE = {"profile": "smoke", "notebook": "01", "title": "made up", "class_names": CLASSES}
GOOD = PAGE | {"logits": np.zeros((4, 3)), "labels": np.array([0, 1, 2, 0]), "examples": [0]}
GRID = PAGE | {"logits": np.zeros((5, 5, 1, 3)), "labels": [1], "coordinates": np.arange(5.0), "axes": ("one", "two")}


@pytest.mark.parametrize(
    ("save", "data", "message"),
    [
        (save_temperature, {"logits": np.full((4, 3), np.nan)}, "logits hold NaN or infinity"),
        (save_temperature, {"logits": np.zeros(4)}, "logits must have shape"),
        (save_temperature, {"logits": np.eye(3)[[0, 1, 2, 0]]}, "look like probabilities"),
        (save_temperature, {"labels": [0, 1, 2, 3]}, r"labels must lie in \[0, 2\]"),
        (save_temperature, {"class_names": ["cat"]}, "class_names must be 3 words, got 1"),
        (save_temperature, {"examples": [4]}, "examples must be rows of the 4 logits"),
        (save_temperature, {"sentences": ["one", "two"]}, "sentences must be one for each of the 1 examples, got 2"),
        (save_temperature, {"pictures": np.full((1, 1, 2, 2), 2.0)}, r"pictures must lie in \[0, 1\]"),
        (save_temperature, {"adversarial_accuracy": {"pgd": [(0.0, 50)]}}, "'pgd' must be pairs"),
        (save_landscape, {"coordinates": np.arange(4.0)}, "coordinates must be increasing"),
        (save_landscape, {"labels": [1, 1]}, "labels must have shape"),
        (save_landscape, {"paths": [(1.0, [[0, 0, 0]])]}, r"path must be finite points \(n, 2\)"),
    ],
)
def test_what_does_not_fit_is_refused(save, data, message):
    with pytest.raises(ValueError, match=message):
        save("a", **(GOOD if save is save_temperature else GRID) | data)


def test_a_file_that_would_be_too_large_is_refused():
    data = GOOD | {"logits": np.zeros((400_000, 3)), "labels": np.zeros(400_000, dtype=int)}
    with pytest.raises(ValueError, match=r"temperature-a takes \d+ bytes, more than 2000000: pass fewer examples"):
        save_temperature("a", **data)


# --- numbers in the browser ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def open_page(browser, site):
    @cache
    def open_once(name: str):
        page = browser.new_page(viewport={"width": 390, "height": 844})
        page.goto((site / name).as_uri())
        page.evaluate(
            "window.data = JSON.parse(document.getElementById('stored').textContent);"
            "window.logits = numbers.array(data.logits)"
        )
        return page

    return open_once


@pytest.mark.browser
@pytest.mark.parametrize("temperature", [1e-3, 0.1, 1.0, 30.0, 1e5])
def test_calibration_and_walls_in_javascript_are_those_of_python(open_page, logits, labels, temperature):
    page = open_page("temperature-image.html")
    computed = page.evaluate("t => numbers.calibration(logits, data.labels, t)", temperature)
    report = calibration_report(logits, labels, temperature=temperature)
    assert computed["accuracy"] == report.accuracy
    assert computed["meanConfidence"] == pytest.approx(report.mean_confidence, abs=1e-12)
    assert computed["ece"] == pytest.approx(report.expected_calibration_error, abs=1e-9)
    assert computed["nll"] == pytest.approx(report.negative_log_likelihood, rel=1e-9)

    shares = page.evaluate("t => numbers.walls(logits, data.labels, t)", temperature)
    mask = masking(logits, labels, temperature=temperature)
    assert shares["beyondProbability"] == mask.beyond_probability_wall
    assert shares["beyondGradient"] == mask.beyond_gradient_wall
    assert shares["zeroGradient"] == mask.zero_gradient
    assert shares["oneSided"] == mask.one_sided_gradient


@pytest.mark.browser
@pytest.mark.parametrize("temperature", [1e-3, 0.3, 1.0, 1e4])
def test_landscapes_in_javascript_are_those_of_python(open_page, grid, temperature):
    page = open_page("landscape-input.html")
    flat, label = grid.reshape(49, 3), torch.zeros(49, dtype=torch.long)
    for name, score in (("cross-entropy", CrossEntropy(temperature)), ("margin", Margin()), ("dlr", DLR())):
        command = "([loss, t]) => Array.from(numbers.surface(logits, data.labels, loss, t))"
        computed = page.evaluate(command, [name, temperature])
        expected = score(flat, label)
        np.testing.assert_allclose(computed, expected.numpy(), rtol=2e-6, atol=1e-9)
        assert [value == 0 for value in computed] == (expected == 0).tolist()


@pytest.mark.browser
def test_the_pages_show_what_the_slider_says(open_page, logits, labels):
    page = open_page("temperature-image.html")
    report = calibration_report(logits, labels, temperature=0.1)
    before = page.locator("#softmax").inner_html()
    reliability = page.locator("#reliability").inner_html()
    page.locator("#temperature").focus()
    for _ in range(20):  # a step is 0.05 of a decade
        page.keyboard.press("ArrowLeft")
    page.wait_for_function("document.getElementById('temperature-value').textContent === 'T = 0.1'")
    assert page.locator("#ece").text_content() == f"{100 * report.expected_calibration_error:.1f} %"
    assert page.locator("#temperature").get_attribute("aria-valuetext") == "T = 0.1"
    assert page.locator("#softmax").inner_html() != before
    assert page.locator("#reliability").inner_html() != reliability
    assert page.locator("#example-sentence").text_content() == "</script><b>dull</b>"
    assert "20.0 % (recorded at T = 1)" in page.locator("#adversarial-accuracy").text_content()


@pytest.mark.browser
def test_a_surface_is_hatched_where_it_is_exactly_flat(open_page):
    page = open_page("landscape-input.html")
    drawn = "document.querySelector('#landscape-surface').toDataURL()"
    before = page.evaluate(drawn)
    page.locator("#landscape-temperature").focus()
    page.keyboard.press("ArrowRight")
    page.wait_for_function(f"before => {drawn} !== before", arg=before)
    page.locator("button[data-exponent='-3']").click()
    page.wait_for_function("document.getElementById('temperature-value').textContent === 'T = 0.001'")
    # The true class leads by more than 104 T in the first six columns, so all of these but the last are still.
    assert page.locator("#landscape-flat").text_content() == f"{100 * 5 / 7:.1f} %"
    page.locator("#loss-margin").check()
    page.wait_for_function("document.getElementById('landscape-flat').textContent === '0.0 %'")
    assert page.locator("#path-note").text_content() == "path of PGD on the margin"


@pytest.fixture(scope="module")
def published_site(tmp_path_factory) -> Path:
    """The published records and scorecard: long rows."""
    folder = tmp_path_factory.mktemp("published") / "quick"
    shutil.copytree(repository_root() / "results" / "published" / "quick", folder)
    return build_site(folder).parent


@pytest.mark.browser
@pytest.mark.parametrize(("scheme", "background"), [("light", "rgb(255, 255, 255)"), ("dark", "rgb(20, 23, 27)")])
@pytest.mark.parametrize("name", ["site", "published_site"])
def test_every_page_is_reached_fits_a_phone_asks_nobody_and_is_silent(browser, request, name, scheme, background):
    index = request.getfixturevalue(name) / "index.html"
    home, requests, messages = index.parent.as_uri(), [], []
    page = browser.new_page(viewport={"width": 390, "height": 844}, color_scheme=scheme)
    page.on("request", lambda asked: requests.append(asked.url))
    page.on("console", lambda message: messages.append(message.text))
    page.on("pageerror", lambda error: messages.append(str(error)))
    waiting, seen = [index.as_uri()], set()
    while waiting:
        address = waiting.pop()
        seen.add(address)
        page.goto(address)
        assert page.evaluate("document.documentElement.scrollWidth") <= 390, f"{address} is too wide"
        assert page.evaluate("getComputedStyle(document.body).backgroundColor") == background
        links = page.eval_on_selector_all("a[href]", "all => all.map(one => one.href.split('#')[0])")
        waiting += {link for link in links if link.startswith(home) and link.endswith(".html")} - seen - {*waiting}
    page.close()
    assert {Path(address).name for address in seen} == {path.name for path in index.parent.glob("*.html")}
    assert [url for url in requests if not url.startswith((home, "data:", "blob:"))] == []
    assert messages == []
