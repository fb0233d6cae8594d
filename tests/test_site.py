"""The static site: whole links, no outside requests, readable formulas, and sliders that work without a kernel."""

from __future__ import annotations

import re
import shutil
from functools import cache
from pathlib import Path

import made_sliders as made
import pytest
from bs4 import BeautifulSoup
from made_site import OTHERS, PNG, write_results
from PIL import Image

from robustlib.__main__ import main
from robustlib.calibration.metrics import calibration_report
from robustlib.course.run.runner import report
from robustlib.course.site import build_site
from robustlib.course.site.markdown import formula, to_html
from robustlib.course.site.origin import describe_lesson
from robustlib.data.folders import repository_root
from robustlib.study.records import load_records


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    return write_results(tmp_path_factory.mktemp("results") / "smoke")


@pytest.fixture(scope="module")
def site(results) -> Path:
    return build_site(results).parent


def text_of(site: Path, page: str) -> str:
    return (site / page).read_text(encoding="utf-8")


def pages(site: Path) -> dict[str, BeautifulSoup]:
    return {path.name: BeautifulSoup(text_of(site, path.name), "html.parser") for path in site.glob("*.html")}


def links(page: BeautifulSoup) -> list[str]:
    return [tag["href"] for tag in page.select("a[href]")]


def test_the_site_has_an_index_a_page_a_notebook_and_a_page_a_slider(site):
    sliders = {"temperature-lab-00.html", "temperature-lab-00-2.html", "illusion-00.html", "landscape-03.html"}
    sliders |= {f"{name.replace('_', '-')}-03.html" for name in OTHERS if name != "loss_landscape"}
    expected, read = {"index.html", "00_first.html", "03_second.html", "glossary.html"} | sliders, pages(site)
    assert set(read) == expected
    assert expected - {"index.html"} <= set(links(read["index.html"]))


def test_every_link_leads_somewhere_and_every_page_is_for_phones_and_the_keyboard(site):
    read = pages(site)
    ids = {name: [tag["id"] for tag in page.select("[id]")] for name, page in read.items()}
    for name, page in read.items():
        assert len(ids[name]) == len(set(ids[name])), f"{name} has an id twice"
        assert page.select("meta[content*='width=device-width']") and links(page)[0] == "#content", name
        for address in [*links(page), *(tag.get("src") or tag["href"] for tag in page.select("[src], link[href]"))]:
            if address.startswith(("https:", "data:")):
                continue
            file, _, section = address.partition("#")
            assert (site / (file or name)).is_file(), f"{name} links to {address}"
            assert not section or section in ids[file or name], f"{name} links to {address}"


def test_no_page_tells_where_it_was_built(site, results):
    for path in site.rglob("*.*"):
        content = path.read_bytes()
        assert str(results).encode() not in content and str(Path.home()).encode() + b"/" not in content, path.name


def test_a_lesson_shows_prose_figures_and_tables_but_no_leftovers_of_a_kernel(site):
    page = text_of(site, "00_first.html")
    assert "a &lt; b" in page
    figure = 'src="figures/00_first-1.png" width="1" height="1" alt="Figure 1. PGD: 90 at 1, 3 at 10"'
    assert f'<a href="figures/00_first-1.png"><img {figure}' in page
    assert "<figcaption>Figure 1. Accuracy &lt;under&gt; attack</figcaption>" in page
    assert (site / "figures" / "00_first-1.png").read_bytes() == PNG
    for leftover in ("VBox", "vnd.jupyter", "bar</pre>", "10%", "<style scoped", "# Parameters", "&#39;quick&#39;"):
        assert leftover not in page, leftover
    assert page.count('<div class="scroll" tabindex="0" role="group" aria-label="table"><table') == 2
    assert "T<sub>d</sub> = 1 is <code>T_d</code>." in page
    assert "<thead>" not in page  # the table of facts has an empty one
    assert page.count("This widget needs a running notebook") == 1
    assert page.count('<script type="module">') == 3
    assert "<details" not in page.split("guess")[0].rsplit("</details>", 1)[1], "an exercise stands open"
    folded = page.split('<details class="solution"><summary>Sample solution</summary>')[1].split("</details>")[0]
    assert re.sub("<[^>]+>", "", folded).strip().startswith("def step(current, image, gradient, step_size, epsilon):")


def test_what_was_measured_opens_on_a_click(site):
    (folded,) = re.findall(
        r'<details class="reveal"><summary>(.+?)</summary>(.+?)</details>', text_of(site, "00_first.html"), re.S
    )
    assert folded[0] == "What was measured" and "<strong>c</strong>" in folded[1]
    assert ">reveal<" not in text_of(site, "00_first.html"), "what only tells the outcome has no code to read"


def test_a_word_of_the_glossary_is_explained_once_where_prose_first_uses_it(site):
    terms = pages(site)["00_first.html"].select("a.term")
    assert [named["href"] for named in terms] == [f"glossary.html#{word}" for word in ("margin", "scale-free", "wall")]
    assert terms[0]["data-meaning"].startswith("largest wrong logit minus the true one")
    assert "<code>margin</code> is a <em><a " in text_of(site, "00_first.html")


def test_every_page_says_where_its_numbers_come_from_and_how_to_run_it(site, results):
    records = load_records(results).assign(experiment="00_first", dataset="digits", model="minilm-2-layers")
    assert describe_lesson(records, "00_first") == (
        "Data: scikit-learn digits. Model: MiniLM (2 of 6 layers). n = 600, seed 0. "
        "Profile smoke, device cpu, measured 2026-01-02."
    )
    lesson = text_of(site, "00_first.html")
    for page in (lesson, text_of(site, "temperature-lab-00.html")):
        assert "Reads the records of the other lessons: profile smoke" in page
    assert "./run_all.sh quick --only 00" in lesson
    index = text_of(site, "index.html")
    assert "@software{robustlib," in index
    assert "eprint = {2402.17509}" in index.split("@inproceedings{raina2024,")[1]


def test_a_shared_address_has_a_picture_and_its_words(site):
    for name, page in pages(site).items():
        named = {tag.get("property") or tag.get("name"): tag["content"] for tag in page.select("meta[content]")}
        assert named["og:image"] == "card.png" and named["twitter:card"] == "summary_large_image", name
        assert "served at T_d = 0.001: 80.0 %" in named["og:image:alt"]
    with Image.open(site / "card.png") as card:
        assert card.size == (1200, 630)


def test_lessons_lead_to_each_other_and_to_the_index(site):
    first, second = (pages(site)[name] for name in ("00_first.html", "03_second.html"))
    assert first.select_one("a[rel=next]")["href"] == "03_second.html" and not first.select("a[rel=prev]")
    assert second.select_one("a[rel=prev]")["href"] == "00_first.html"
    assert links(first).count("03_second.html") >= 3  # menu, next lesson, and the link in the prose


def test_a_failed_notebook_is_shown_as_failed(site):
    assert "ValueError: bad &lt;logits&gt;" in text_of(site, "03_second.html")
    assert text_of(site, "index.html").count("failed in this run") == 1


def test_the_index_shows_headline_and_verdicts_from_the_records(site):
    index = text_of(site, "index.html")
    assert "80.0 [77.0, 83.0]" in index and "served at T<sub>d</sub> = 0.001" in index
    assert "Does PGD see it?" in index
    row = index.split('<tr id="C1-image">')[1].split("</tr>")[0]
    assert "+70.0 [+67.0, +73.0]" in row and '<span class="verdict' in row
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


def test_the_command_says_where_the_site_is_or_what_is_missing(results, tmp_path, capsys):
    assert main(["site", "--results", str(results)]) == 0
    assert capsys.readouterr().out.strip() == str(results / "site" / "index.html")
    assert main(["site", "--results", str(tmp_path / "none")]) == 2
    assert "no results in" in capsys.readouterr().err


def test_a_folder_with_other_files_is_not_replaced(results, tmp_path):
    (tmp_path / "thesis.tex").touch()
    with pytest.raises(ValueError, match="holds something else than a site"):
        build_site(results, tmp_path)
    assert (tmp_path / "thesis.tex").exists()


def test_a_run_survives_a_site_that_cannot_be_built(results, tmp_path, capsys):
    shutil.copytree(results / "notebooks", tmp_path / "notebooks")
    (tmp_path / "notebooks" / "00_first.ipynb").write_text("{")
    report(tmp_path)
    assert re.search(r"No pages: ValueError: .*00_first.ipynb is damaged", capsys.readouterr().out)


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


def test_code_in_prose_can_be_scrolled_by_keyboard():
    assert '<pre tabindex="0"' in to_html("```\nrobustlib.audit(served)\n```", pages={})


def test_a_link_to_a_notebook_that_has_a_page_leads_there():
    body = to_html("[a](../notebooks/01_x.ipynb#part) [b](02_y.ipynb)", pages={"01_x.ipynb": "01_x.html"})
    assert 'href="01_x.html#part"' in body and 'href="02_y.ipynb"' in body


@pytest.fixture(scope="module")
def open_page(browser, site):
    @cache
    def open_once(name: str):
        page = browser.new_page(viewport={"width": 390, "height": 844})
        page.goto((site / name).as_uri())
        return page

    return open_once


def part(page, name: str) -> str:
    return page.locator(f'[data-part="{name}"]').text_content()


@pytest.mark.browser
def test_the_keyboard_moves_a_slider_and_everything_that_it_shows(open_page):
    page = open_page("temperature-lab-00-2.html")
    logits, labels = made.predictions()
    report = calibration_report(logits, labels, temperature=0.1)
    before = {name: page.locator(f'[data-part="{name}"]').inner_html() for name in ("softmax", "reliability", "attack")}
    slider = page.locator('input[type="range"]')
    slider.focus()
    for _ in range(20):  # a step is 0.05 of a decade
        page.keyboard.press("ArrowLeft")
    page.wait_for_function("document.querySelector('output').textContent === 'T = 0.1'")
    assert part(page, "ece") == f"{100 * report.expected_calibration_error:.1f} %"
    assert slider.get_attribute("aria-valuetext") == "T = 0.1"
    for name in ("softmax", "reliability"):
        assert page.locator(f'[data-part="{name}"]').inner_html() != before[name], name
    page.keyboard.press("Home")
    page.wait_for_function("document.querySelector('output').textContent === 'T = 1e-6'")
    assert "80.0 % (measured at Td = 1e-6)" in part(page, "attack-words")
    page.get_by_role("button", name="as trained").click()
    page.wait_for_function("document.querySelector('output').textContent === 'T = 1'")
    assert page.locator('[data-part="attack"]').inner_html() == before["attack"]
    page.wait_for_function(
        "document.querySelector('[role=status]').textContent.startsWith('At T = 1: accuracy 80.0 %')"
    )


@pytest.mark.browser
def test_a_sentence_is_text_whatever_it_says(open_page):
    assert part(open_page("temperature-lab-00.html"), "sentence") == "</script><b>so it goes</b>"


@pytest.mark.browser
def test_a_landscape_says_what_is_flat_what_decides_and_what_came_out(open_page):
    page = open_page("landscape-03.html")
    page.locator('input[type="range"]').focus()
    page.keyboard.press("Home")
    page.wait_for_function("document.querySelector('output').textContent === 'T = 0.001'")
    around = made.loss_landscape()
    margins = around.stored["margins"]["cross-entropy"][0]
    assert float(part(page, "flat").split()[0]) > 0
    assert "does not fool the model within 4 steps" in part(page, "steps-words") and max(margins) < 0
    page.get_by_label("The attacker climbs:").select_option(label="margin (no T in it)")
    page.wait_for_function("document.querySelector('[data-part=flat]').textContent === '0.0 %'")
    assert part(page, "loss-heading") == "What the attacker climbs: margin."
    page.get_by_label("Directions:").select_option(label="weights")
    page.wait_for_function("document.querySelector('[data-part=steps]').closest('figure').hidden")


@pytest.mark.browser
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_on_any_page(browser, site, published_site, scheme):
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="needs axe-playwright-python").Axe()
    page, violations = browser.new_page(viewport={"width": 390, "height": 844}, color_scheme=scheme), []
    for path in sorted([*site.glob("*.html"), *published_site.glob("*.html")]):
        page.goto(path.as_uri())
        found = axe.run(page).response["violations"]
        violations += [f"{path.name}: {one['id']} at {one['nodes'][0]['html'][:200]}" for one in found]
    page.close()
    assert violations == []


@pytest.mark.browser
@pytest.mark.parametrize("width", [360, 800, 1280, 1920])
def test_no_slider_page_is_wider_than_the_screen(browser, site, width):
    page = browser.new_page(viewport={"width": width, "height": 844})
    for path in site.glob("*-0[03]*.html"):
        page.goto(path.as_uri())
        assert page.evaluate("document.documentElement.scrollWidth") <= width, path.name
        assert page.locator(".rl-control").first.bounding_box()["width"] > 0.75 * min(width, 62 * 16), "a track as wide"
    page.close()


def tab_to(page, selector: str) -> None:
    """Press Tab until what matches the selector has the focus."""
    for _ in range(80):
        page.keyboard.press("Tab")
        if page.evaluate("selector => document.activeElement.matches(selector)", selector):
            return
    raise AssertionError(f"no keyboard reaches {selector}")


@pytest.mark.browser
@pytest.mark.parametrize("width", [390, 800, 1280])
def test_the_keyboard_alone_reaches_a_lesson_its_words_its_answer_and_its_slider(browser, site, width):
    page = browser.new_page(viewport={"width": width, "height": 844})
    page.goto((site / "index.html").as_uri())
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")  # the skip link
    assert page.evaluate("document.activeElement.id") == "content"
    page.goto((site / "index.html").as_uri())
    tab_to(page, "details.menu summary")
    page.keyboard.press("Enter")
    tab_to(page, 'a[href="00_first.html"]')
    page.keyboard.press("Enter")
    page.wait_for_url("**/00_first.html")
    tab_to(page, ".term")
    assert "largest wrong logit" in page.evaluate("document.activeElement.dataset.meaning")
    # Firefox gives the style's `content` as attr(data-meaning), so ask whether the box is there.
    assert page.evaluate("parseFloat(getComputedStyle(document.activeElement, '::after').height)") > 10
    tab_to(page, ".reveal summary")
    assert not page.locator(".reveal strong").is_visible()
    page.keyboard.press("Enter")
    page.locator(".reveal strong").wait_for(state="visible")
    tab_to(page, 'input[type="range"]')
    before = page.locator("output").first.text_content()
    page.keyboard.press("ArrowLeft")
    page.wait_for_function("before => document.querySelector('output').textContent !== before", arg=before)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    page.close()


@pytest.mark.browser
def test_menus_close_on_escape_and_elsewhere(open_page):
    page = open_page("index.html")
    menu = page.locator("details.menu").first
    for close in (lambda: page.keyboard.press("Escape"), lambda: page.locator("footer").click()):
        menu.locator("summary").click()
        assert menu.get_attribute("open") is not None
        close()
        assert menu.get_attribute("open") is None


@pytest.fixture(scope="module")
def published_site(tmp_path_factory) -> Path:
    """The published records and scorecard: long rows."""
    folder = tmp_path_factory.mktemp("published") / "quick"
    shutil.copytree(repository_root() / "results" / "published" / "quick", folder)
    return build_site(folder).parent


@pytest.mark.browser
@pytest.mark.parametrize(("scheme", "background"), [("light", "rgb(255, 255, 255)"), ("dark", "rgb(20, 23, 27)")])
@pytest.mark.parametrize("name", ["site", "published_site"])
def test_every_page_is_reached_fits_every_screen_asks_nobody_and_is_silent(browser, request, name, scheme, background):
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
        for width in (1280, 800, 390):
            page.set_viewport_size({"width": width, "height": 844})
            assert page.evaluate("document.documentElement.scrollWidth") <= width, f"{address} is too wide for {width}"
        assert page.evaluate("getComputedStyle(document.body).backgroundColor") == background
        links = page.eval_on_selector_all("a[href]", "all => all.map(one => one.href.split('#')[0])")
        waiting += {link for link in links if link.startswith(home) and link.endswith(".html")} - seen - {*waiting}
    page.close()
    assert {Path(address).name for address in seen} == {path.name for path in index.parent.glob("*.html")}
    assert [url for url in requests if not url.startswith((home, "data:", "blob:"))] == []
    assert messages == []
