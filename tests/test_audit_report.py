"""What an audit shows: four forms of one record, the pages that explain it, and the command with its exit status."""

import re
from dataclasses import replace
from pathlib import Path

import pytest

import robustlib.audit
from robustlib.audit import Accuracy, Audit, Difference, Finding, IllusionError, Rung, figures, report
from robustlib.audit.explain import explain, explanations


def rung(name, family, percent, **values):
    accuracy = Accuracy(percent, max(0.0, percent - 5), min(100.0, percent + 5))
    return Rung(name, f"how {name} searches", "pgd", family, accuracy=accuracy, n=200, forwards=6000, **values)


@pytest.fixture
def masked():
    """A made-up audit with everything that a report can show."""
    gap = Difference(-71.5, -77.0, -64.0)
    return Audit(
        verdict="masked",
        reason="71.5 points fall to inner",
        remedy="evaluate <net.body>",
        subject={"name": "net <1>", "gives": "logits", "modality": "image", "n_classes": 10, "notes": ["a | note"]},
        settings={"norm": "linf", "epsilon": 0.05, "n": 200, "seed": 0, "versions": {"torch": "2.11"}},
        clean=Accuracy(88.5, 83.4, 92.2),
        as_served=Accuracy(86.5, 81.1, 90.5),
        at_most=Accuracy(15.0, 10.7, 20.6),
        together=Accuracy(14.0, 9.9, 19.5),
        gap=Difference(71.5, 64.0, 77.0),
        found_by="inner",
        smallest=5.0,
        findings=(
            Finding("answers.coarse", "contract", "warning", "4 % of the values are distinct", {"distinct": 0.04}),
            Finding("answers.random", "contract", "fine", "the same inputs get the same answers"),
            Finding("answers.finite", "contract", "fatal", "3 of 200 answers hold NaN"),
        ),
        rungs=(
            rung("noise", "sanity", 82.0),
            rung("as served", "served", 86.5),
            rung("margin", "scale", 86.5, difference=Difference(0.0, -2.0, 2.0)),
            rung("inner", "unmask", 15.0, difference=gap, note="body"),
            Rung("square", "", "square", "black box", "failed", note="ValueError: a <b> | c"),
            *(Rung(name, "", "pgd", "scale", "skipped", note="gradients are sound") for name in ("one", "two")),
        ),
        seconds=31.4,
        forwards=48210,
        backwards=20000,
        claim=62.0,
        claim_outcome="refuted",
        curves={
            "radius": {"as served": [[0, 88.5], [0.05, 86.5]], "at most": [[0, 88.5], [0.05, 15.0]]},
            "reliability": [[0.4, 50.0, 3], [0.95, 90.0, 190]],
        },
    )


SHOWN = (
    "86.5",
    "15.0 [10.7, 20.6]",
    "71.5 points [64.0, 77.0]",
    "62 %: refuted",
    "88.5",
    "4 % of the values are distinct",
    "ValueError",
)


@pytest.mark.parametrize("form", [report.text, report.markdown, report.page, report.card, str])
def test_every_form_says_what_was_found_by_what_and_what_it_is_not(masked, form):
    shown = form(masked)
    plain = re.sub(r"\s+", " ", shown)
    for part in (*SHOWN, "no finite set of attacks proves robustness"):
        assert part in plain, part
    assert "robust." not in re.sub("robustness|robustlib", "", plain), "nothing is called robust"
    assert plain.index("3 of 200") < plain.index("4 % of the values"), "the worst comes first"


def test_a_terminal_is_110_columns_wide(masked):
    assert max(map(len, report.text(masked).splitlines())) <= 110


def test_the_page_is_sound_and_loads_nothing(masked):
    from html.parser import HTMLParser

    class Page(HTMLParser):
        def __init__(self):
            super().__init__()
            self.anchors, self.links, self.tags = set(), set(), []

        def handle_starttag(self, tag, attributes):
            values = dict(attributes)
            self.tags.append(tag)
            self.anchors.add(values.get("id"))
            self.links.add(values.get("href"))
            assert not {"src", "srcset"} & set(values)

    page = Page()
    page.feed(report.page(masked))
    assert page.tags.count("svg") == 3
    assert not {"script", "link", "img"} & set(page.tags)
    inside = {link.removeprefix("#") for link in page.links if link and link.startswith("#")}
    assert {"masked", "answers.coarse", "family.black-box"} <= inside <= page.anchors
    assert "net &lt;1&gt;" in report.page(masked)


def test_figures_say_nothing_where_nothing_was_measured(masked):
    bare = replace(masked, curves={})
    assert (figures.by_radius(bare), figures.reliability(bare)) == ("", "")
    assert report.page(bare).count("<svg") == 1
    assert "85" not in figures.by_adversary(replace(masked, rungs=()))


def test_an_unfinished_audit_and_one_without_an_attack_can_be_shown(masked):
    none = dict.fromkeys(("as_served", "at_most", "together", "gap", "clean", "smallest", "claim"))
    empty = replace(masked, verdict="broken", rungs=(), complete=False, found_by="", **none)
    for form in (report.text, report.markdown, report.page, report.card):
        assert "unfinished" in form(empty)


def test_a_record_is_read_back_and_saved_in_every_form(masked, tmp_path):
    assert Audit.from_json(masked.to_json()) == Audit.from_json(Audit.from_json(masked.to_json()).to_json())
    for name in ("a.json", "a.html", "a.md"):
        masked.save(tmp_path / name)
        assert (tmp_path / name).stat().st_size > 1000
    with pytest.raises(ValueError, match=r"must end with \.json, \.html, \.md"):
        masked.save(tmp_path / "a.pdf")
    for text in ("{}", "[]", "no json", '{"schema": 0}'):
        with pytest.raises(ValueError, match=r"no record of an audit|has schema 0"):
            Audit.from_json(text)


def test_a_card_is_yaml_of_the_model_index_and_markdown(masked):
    yaml = pytest.importorskip("yaml")
    _, head, body = report.card(masked).split("---\n", 2)
    (entry,) = yaml.safe_load(head)["model-index"]
    metrics = {metric["type"]: metric["value"] for metric in entry["results"][0]["metrics"]}
    assert metrics == {"accuracy": 0.885, "adversarial_accuracy_as_served": 0.865, "adversarial_accuracy_at_most": 0.15}
    assert body.lstrip().startswith("## Audit: net <1>")
    assert yaml.safe_load(head)["model-index"][0]["name"] == "net <1>"


def test_everything_that_an_audit_can_say_is_explained():
    source = "\n".join(path.read_text() for path in Path(robustlib.audit.__file__).parent.glob("*.py"))
    findings = set(re.findall(r'Finding\(\s*"([a-z]+\.[a-z]+)"', source))
    families = {f"family.{name}" for name in figures.COLOURS}
    verdicts = set(robustlib.audit.findings.EXIT_STATUS)
    assert findings | families | verdicts <= set(explanations())
    for entry in explanations().values():
        assert [part.split(".**")[0] for part in entry.paragraphs] == ["**Means", "**Do"]
        assert "**" not in str(entry)
        assert "**" not in entry.html
    with pytest.raises(ValueError, match=r"gradient\.zero"):
        explain("gradient")


def test_a_test_suite_fails_with_the_report(masked):
    with pytest.raises(IllusionError, match=r"masked: 71\.5 points") as failure:
        masked.raise_for_verdict()
    assert "answers.coarse" in str(failure.value)
    with pytest.raises(IllusionError, match="claim of 62 % is refuted"):
        replace(masked, verdict="no illusion found").raise_for_verdict()
    assert "the claim of 62 % is refuted" in report.headline(replace(masked, verdict="no illusion found"))
    sound = replace(masked, verdict="no illusion found", claim_outcome="not refuted")
    sound.raise_for_verdict(at_least=15)
    with pytest.raises(IllusionError, match="below 40 %"):
        sound.raise_for_verdict(at_least=40)
