"""An audit as people read it: for a terminal, as Markdown for an appendix, as an HTML page, as part of a model card."""

from __future__ import annotations

import textwrap

from robustlib import __version__
from robustlib.audit import figures
from robustlib.audit.explain import explanations
from robustlib.audit.findings import Audit, Finding

HEADLINES = {
    "no illusion found": "NO ILLUSION FOUND",
    "miscalibration": "ILLUSION BY MISCALIBRATION",
    "masked": "ILLUSION BY MASKING",
    "inconclusive": "INCONCLUSIVE",
    "broken": "BROKEN: mend this first",
}
WHAT_IT_IS_NOT = (
    "an upper bound from {count}: no finite set of attacks proves robustness, and an attacker made for this model may "
    "do better."
)


def text(audit: Audit) -> str:
    """The report for a terminal, at most 110 columns wide."""
    lines = [f"robustlib audit  {audit.subject.get('name', 'model')}  ·  {threat(audit)}  ·  {cost(audit)}", ""]
    lines += _said("VERDICT", HEADLINES[audit.verdict] + ("" if audit.complete else " (unfinished)"))
    lines += _said("", headline(audit)) if headline(audit) else []
    lines += [*_said("", audit.reason), ""]
    lines += _said("", facts(audit))
    lines += ["", "  what was tried, on the same examples".ljust(48) + "stands                against as served"]
    for rung in audit.rungs:
        if rung.accuracy:
            gain = f"  {rung.difference}" if rung.difference and rung.family not in ("served", "sanity") else ""
            mark = "   <- lowest" if rung.name == audit.found_by else ""
            lines.append(f"    {rung.name[:42]:43} {rung.accuracy!s:20}{gain}{mark}".rstrip())
    for rung in audit.rungs:
        if rung.status in ("failed", "unfinished"):
            lines += _said(f"{rung.name} {rung.status}:", rung.note, indent=4)
    left_out = "; ".join(f"{reason}: {', '.join(names)}" for reason, names in skipped(audit).items())
    lines += _said("left out, since", left_out, indent=4) if left_out else []
    lines += ["", "  why"]
    for finding in remarkable(audit):
        lines += _said(f"[{finding.name}]", finding.sentence, indent=4)
    fine = [finding.name for finding in audit.findings if finding.severity == "fine"]
    lines += _said("nothing to report:", ", ".join(fine), indent=4) if fine else []
    for note in audit.subject.get("notes", ()):
        lines += _said("note:", note, indent=4)
    lines += ["", *_said("what to do", audit.remedy), *_said("this is", limits(audit))]
    return "\n".join([*lines, *_said("explained", "python -m robustlib audit --explain NAME")])


def markdown(audit: Audit) -> str:
    """The report for a paper's appendix or a README."""
    lines = [f"## Audit: {audit.subject.get('name', 'model')}", "", f"*{threat(audit)}; {cost(audit)}.*", ""]
    lines += [f"**{audit.verdict.capitalize()}**{'' if audit.complete else ' (unfinished)'}: {audit.reason}", ""]
    lines += [headline(audit), ""] if headline(audit) else []
    lines += [
        facts(audit),
        "",
        "| attack | kind | accuracy % [95 %] | against as served, points | passes |",
        "|---|---|--:|--:|--:|",
    ]
    for rung in audit.rungs:
        if rung.status == "skipped":
            continue
        accuracy = str(rung.accuracy) if rung.accuracy else f"{rung.status}: {_cell(rung.note)}"
        accuracy = f"**{accuracy}**" if rung.name == audit.found_by else accuracy
        difference = str(rung.difference) if rung.difference and rung.family not in ("served", "sanity") else ""
        passes = f"{rung.forwards + rung.backwards:,}" if rung.accuracy else ""
        attack = f"{_cell(rung.name)}: {_cell(rung.adversary)}"
        lines.append(f"| {attack} | {rung.family} | {accuracy} | {difference} | {passes} |")
    if left_out := skipped(audit):
        lines += ["", "Left out: " + "; ".join(f"{', '.join(names)} ({why})" for why, names in left_out.items()) + "."]
    lines += ["", *(f"- `{finding.name}` ({finding.severity}): {finding.sentence}" for finding in remarkable(audit))]
    lines += [f"- note: {note}" for note in audit.subject.get("notes", ())]
    lines += ["", f"**What to do.** {audit.remedy}", "", f"**What this is:** {limits(audit)}", ""]
    return "\n".join([*lines, f"*To cite:* {citation(audit)}", ""])


def card(audit: Audit) -> str:
    """A section of a model card, headed by the metrics of its `model-index`."""
    entries = []
    for name, accuracy in (
        ("accuracy", audit.clean),
        ("adversarial_accuracy_as_served", audit.as_served),
        ("adversarial_accuracy_at_most", audit.at_most),
    ):
        if accuracy is not None:
            value = f"value: {accuracy.percent / 100:.4f}"
            entries.append(f'      - type: {name}\n        {value}\n        args: {{threat: "{threat(audit)}"}}')
    task = "image-classification" if audit.subject.get("modality") == "image" else "text-classification"
    head = [
        "---",
        "model-index:",
        f"- name: {audit.subject.get('name', 'model')}",
        "  results:",
        f"    - task: {{type: {task}}}",
        "      metrics:",
        *entries,
        "---",
    ]
    return "\n".join([*head, "", markdown(audit)])


def page(audit: Audit) -> str:
    """The report as one HTML page that loads nothing, with figures and the explanation of everything it names."""
    from jinja2 import Environment, PackageLoader

    templates = Environment(loader=PackageLoader("robustlib.audit", ""), autoescape=True, trim_blocks=True)
    named = [audit.verdict, *(f.name for f in remarkable(audit)), *(f"family.{rung.family}" for rung in audit.rungs)]
    named += [finding.name for finding in audit.findings]
    return templates.get_template("report.html").render(
        audit=audit,
        name=audit.subject.get("name", "model"),
        threat=threat(audit),
        cost=cost(audit),
        headline=headline(audit),
        facts=facts(audit),
        limits=limits(audit),
        citation=citation(audit),
        remarkable=remarkable(audit),
        skipped=skipped(audit),
        by_adversary=figures.by_adversary(audit),
        by_radius=figures.by_radius(audit),
        reliability=figures.reliability(audit),
        explanations=explanations(),
        explained=[explanations()[name] for name in dict.fromkeys(named) if name in explanations()],
        kind={"no illusion found": "good", "inconclusive": "open"}.get(audit.verdict, "bad"),
    )


def threat(audit: Audit) -> str:
    """What the attacks were allowed, and on how many examples."""
    settings, unit = audit.settings, "images" if audit.subject.get("modality") == "image" else "texts"
    if unit == "texts":
        allowed = f"recipe {settings.get('recipe')}"
    else:
        norm = {"linf": "Linf", "l2": "L2"}.get(settings.get("norm", ""), settings.get("norm", ""))
        allowed = f"{norm} {settings.get('epsilon', float('nan')):.4g}"
    return f"{settings.get('n')} {unit}, {allowed}, seed {settings.get('seed')}"


def cost(audit: Audit) -> str:
    """Seconds and passes."""
    return f"{audit.seconds:.0f} s, {audit.forwards:,} forward and {audit.backwards:,} backward passes"


def headline(audit: Audit) -> str:
    """From what was served to what is left, in one sentence; "" where there is nothing to compare."""
    if audit.as_served is None or audit.at_most is None or audit.gap is None:
        return ""
    start = f"{audit.as_served} % as served, at most {audit.at_most} % ({audit.found_by})"
    if audit.verdict == "no illusion found" and audit.claim_outcome == "refuted":
        return f"{start}: the claim of {audit.claim:g} % is refuted"
    if audit.verdict in ("miscalibration", "masked"):
        return (
            f"{start}: {audit.gap.points:.1f} points [{audit.gap.low:.1f}, {audit.gap.high:.1f}] were never robustness"
        )
    return start


def facts(audit: Audit) -> str:
    """Clean accuracy, the claim, and what this sample could have shown."""
    parts = [f"clean accuracy {audit.clean} %"] if audit.clean else []
    if audit.together is not None:
        parts.append(f"all attacks together leave {audit.together} %")
    if audit.claim is not None:
        parts.append(f"claim {audit.claim:g} %: {audit.claim_outcome}")
    if audit.smallest is not None:
        parts.append(f"an illusion below {audit.smallest:.1f} points may have stayed unseen on so few examples")
    return "; ".join(parts)


def limits(audit: Audit) -> str:
    """What the number is, and is not."""
    count = sum(rung.accuracy is not None and rung.family != "sanity" for rung in audit.rungs)
    return WHAT_IT_IS_NOT.format(count=f"{count} attack{'s' if count != 1 else ''}")


def citation(audit: Audit) -> str:
    """The sentence to cite the numbers by."""
    numbers = f"at most {audit.at_most} %" if audit.at_most else "no accuracy under attack"
    return (
        f"audited with robustlib {audit.settings.get('robustlib', __version__)} ({threat(audit)}): {audit.verdict}, "
        f"{numbers}. Method: Raina et al., arXiv 2402.17509, with checks after arXiv 1802.00420 and 1902.06705."
    )


def skipped(audit: Audit) -> dict[str, list[str]]:
    """Attacks that were left out, by reason."""
    reasons: dict[str, list[str]] = {}
    for rung in audit.rungs:
        if rung.status == "skipped":
            reasons.setdefault(rung.note, []).append(rung.name)
    return reasons


def remarkable(audit: Audit) -> list[Finding]:
    """The findings that are not fine, the worst first."""
    order = {"fatal": 0, "warning": 1, "note": 2}
    return sorted((f for f in audit.findings if f.severity in order), key=lambda finding: order[finding.severity])


def _said(label: str, sentence: str, *, indent: int = 2) -> list[str]:
    """A label and a wrapped sentence beside it."""
    start = " " * indent + (f"{label:10} " if label or indent == 2 else "")
    hanging = " " * (13 if indent == 2 else indent + 2)
    return textwrap.wrap(sentence, 110, initial_indent=start, subsequent_indent=hanging) or [start.rstrip()]


def _cell(value: str) -> str:
    return value.replace("|", "\\|").replace("\n", " ")
