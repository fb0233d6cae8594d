"""The audit as it is called: from Python, from the command line with its exit status, in a test suite."""

import json
import subprocess
import sys

import numpy as np
import pytest
import torch
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from torch import nn

import robustlib
from robustlib import audit
from robustlib.audit import Audit, IllusionError
from robustlib.audit.call import seconds_of
from robustlib.audit.command import main

MODULE = """
import numpy as np
import torch
from torch import nn

def net():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(36, 2))
    with torch.no_grad():
        model[1].weight.zero_()
        model[1].weight[1, :18], model[1].weight[0, 18:] = 1.0, 1.0
        model[1].bias.zero_()
    return model.eval()

def cold(images):
    return 1e4 * net()(images)

def data():
    generator = np.random.default_rng(0)
    labels = np.arange(80) % 2
    images = generator.uniform(0.2, 0.6, size=(80, 1, 6, 6)).astype("float32")
    images[labels == 1, :, :3] += 0.2
    images[labels == 0, :, 3:] += 0.2
    return images, labels
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A module with models and data, and the data as a file."""
    folder = tmp_path_factory.mktemp("somebody")
    (folder / "mine.py").write_text(MODULE)
    space = {}
    exec(MODULE, space)
    images, labels = space["data"]()
    np.savez(folder / "test.npz", images=images, y=labels)
    return folder


def run(folder, *arguments, model="net"):
    common = ["--quiet", "--n", "40", "--epsilon", "0.1"]
    return main(["--model", f"{folder / 'mine.py'}:{model}", *common, *map(str, arguments)])


def test_the_package_is_called_like_its_function(folder):
    space = {}
    exec(MODULE, space)
    images, labels = space["data"]()
    for called in (audit, robustlib.audit, sys.modules["robustlib.audit"]):
        result = called(space["net"](), images, labels, epsilon=0.1, n=30, seed=1)
        assert (result.verdict, result.settings["n"], result.settings["seed"]) == ("no illusion found", 30, 1)
    assert "NO ILLUSION FOUND" in str(result)


def test_importing_it_brings_nothing_heavy():
    code = (
        "import sys; from robustlib import audit; import robustlib.audit.command, robustlib.audit.call; "
        "print(sorted({'transformers', 'matplotlib', 'sklearn', 'pandas', 'timm'} & set(sys.modules)))"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert shown.strip() in ("[]", "['sklearn']"), shown


def test_the_exit_status_is_the_verdict_the_claim_or_the_bound(folder, capsys):
    data = "--data", folder / "test.npz"
    assert run(folder, *data) == 0
    assert "NO ILLUSION FOUND" in capsys.readouterr().out
    assert run(folder, *data, model="cold") == 1
    assert "ILLUSION BY MISCALIBRATION" in capsys.readouterr().out
    assert run(folder, *data, "--claim", "0.95") == 6
    assert "claim 95 %: refuted" in " ".join(capsys.readouterr().out.split())
    assert run(folder, *data, "--claim", "0.01", "--fail-under", "0.0") == 0
    assert run(folder, *data, "--fail-under", "0.99") == 6
    assert (
        main(["--model", f"{folder / 'mine.py'}:net", "--data", f"{folder / 'mine.py'}:data", "--epsilon", "0.01"]) == 0
    )


def test_every_format_is_printed_or_written_and_a_record_is_shown_again(folder, capsys, tmp_path):
    record = tmp_path / "audit.json"
    run(folder, "--data", folder / "test.npz", "--json", record, "--format", "json", "--name", "mine")
    printed = json.loads(capsys.readouterr().out)
    assert printed == json.loads(record.read_text())
    assert (printed["schema"], printed["subject"]["name"]) == (1, "mine")
    for form, sign in (
        ("html", "<!doctype html>"),
        ("markdown", "## Audit: mine"),
        ("card", "model-index"),
        ("text", "mine"),
    ):
        assert main(["--read", str(record), "--format", form]) == Audit.from_json(record.read_text()).exit_status
        assert sign in capsys.readouterr().out
    assert main(["--read", str(record), "--format", "html", "--output", str(tmp_path / "a.html")]) == 0
    assert (tmp_path / "a.html").read_text().count("<svg") >= 1


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--data", "x.npz"], "which model"),
        (["--model", "nowhere.at_all:f", "--data", "x.npz"], "nowhere.at_all:f: No module named"),
        (["--model", "json:nothing", "--data", "x.npz"], "json has no nothing"),
        (["--model", "json", "--data", "x.npz"], "write PACKAGE.MODULE:NAME"),
        (["--model", "none.py:f", "--data", "x.npz"], "there is no file none.py"),
        (["--hf", "./nowhere", "--data", "json:loads"], "there is no folder"),
        (["--model", "json:loads"], "which examples"),
        (["--model", "json:loads", "--data", "nowhere"], "no such folder"),
        (["--read", "/nowhere.json"], "No such file"),
        (["--explain", "gradient"], "gradient.zero"),
    ],
)
def test_wrong_use_ends_with_2_and_a_sentence(arguments, sentence, capsys):
    assert main(arguments) == 2
    shown = capsys.readouterr().err
    assert sentence in shown
    assert "Traceback" not in shown


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [(["--claim", "62"], "62 percent is 0.62"), (["--epsilon", "x"], "8/255"), (["--budget", "soon"], "'5m'")],
)
def test_numbers_that_are_none_are_refused(folder, arguments, sentence, capsys):
    try:
        status = run(folder, "--data", folder / "test.npz", *arguments)
    except SystemExit as ended:
        status = ended.code
    assert status == 2
    assert sentence in capsys.readouterr().err


def test_times_are_read_as_people_write_them():
    assert [seconds_of(text) for text in (None, 90, "45s", "5m", "1.5 h", "2min")] == [None, 90, 45, 300, 5400, 120]
    for wrong in ("soon", "-3", "0", "5 days"):
        with pytest.raises(ValueError, match="'5m'"):
            seconds_of(wrong)


def test_a_table_of_texts_and_a_folder_of_images(folder, tmp_path, capsys):
    table = tmp_path / "texts.csv"
    table.write_text("review,grade\n" + "".join(f'"film {i}, fine",{i % 2}\n' for i in range(6)))
    assert main(["--model", f"{folder / 'mine.py'}:net", "--csv", str(table)]) == 2
    assert "has no column text, label; it has review, grade: give --text-column" in capsys.readouterr().err

    from PIL import Image

    generator = np.random.default_rng(0)
    for name, half in (("down", slice(3, 6)), ("up", slice(0, 3))):
        (tmp_path / "images" / name).mkdir(parents=True)
        for i in range(10):
            pixels = generator.integers(40, 120, size=(6, 6, 3), dtype=np.uint8)
            pixels[half] += 60
            Image.fromarray(pixels).save(tmp_path / "images" / name / f"{i}.png")
    (tmp_path / "grey.py").write_text(MODULE + "\ndef grey(images):\n    return net()(images.mean(1, keepdim=True))\n")
    assert (
        main(
            [
                "--model",
                f"{tmp_path / 'grey.py'}:grey",
                "--data",
                str(tmp_path / "images"),
                "--n",
                "20",
                "--epsilon",
                "8/255",
                "--quiet",
            ]
        )
        == 0
    )


def test_texts_from_a_file_to_a_verdict(tmp_path, capsys):
    good, bad = ["fine", "lovely", "warm", "funny"], ["dull", "cold", "dreary", "bland"]
    texts = [f"a {words[i % 4]} and {words[(i // 4) % 4]} film number {i}" for i in range(40) for words in (good, bad)]
    labels = ["good", "bad"] * 40
    lines = "".join(f"{text},{label}\n" for text, label in zip(texts, labels, strict=True))
    (tmp_path / "texts.csv").write_text("text,label\n" + lines)
    (tmp_path / "words.py").write_text(
        "import csv\nfrom sklearn.feature_extraction.text import TfidfVectorizer\n"
        "from sklearn.linear_model import LogisticRegression\nfrom sklearn.pipeline import make_pipeline\n"
        f"rows = list(csv.DictReader(open({str(tmp_path / 'texts.csv')!r})))\n"
        "texts, labels = [row['text'] for row in rows], [row['label'] for row in rows]\n"
        "model = make_pipeline(TfidfVectorizer(), LogisticRegression()).fit(texts, labels)\n"
    )
    arguments = [
        "--model",
        f"{tmp_path / 'words.py'}:model",
        "--csv",
        str(tmp_path / "texts.csv"),
        "--n",
        "20",
        "--quiet",
    ]
    assert main(arguments) in (0, 4)
    assert "20 texts, recipe dg" in capsys.readouterr().out


def test_five_lines_in_a_test_suite():
    pipeline = make_pipeline(TfidfVectorizer(), LogisticRegression()).fit(["good film", "bad film"] * 20, [1, 0] * 20)

    with pytest.raises(IllusionError, match="below 99 %"):
        audit(pipeline, ["good film", "bad film"] * 20, [1, 0] * 20, n=20).raise_for_verdict(at_least=99)


def test_epsilon_is_in_units_of_the_inputs():
    torch.manual_seed(0)
    images, labels = torch.rand(60, 1, 4, 4), torch.arange(60) % 2
    images[labels == 1, :, :2] += 0.3
    images = images.clamp(0, 1)
    model = nn.Sequential(nn.Flatten(), nn.Linear(16, 2))
    with torch.no_grad():
        model[1].weight.zero_()
        model[1].weight[1, :8], model[1].weight[0, 8:] = 1.0, 1.0
    options = {"n": 40, "gives": "logits"}
    one = audit(model, images, labels, epsilon=0.05, **options)
    other = audit(
        lambda inputs: model(inputs / 255), images * 255, labels, epsilon=0.05 * 255, bounds=(0, 255), **options
    )
    assert one.as_served == other.as_served
    assert other.settings["epsilon"] == pytest.approx(0.05)
    with pytest.raises(ValueError, match="epsilon"):
        audit(model, images, labels)


@pytest.mark.parametrize(("scale", "gives"), [(0.02, "logits"), (20.0, "probabilities")])
def test_a_linear_black_box_is_not_accused_however_it_is_scaled(folder, scale, gives):
    """A surrogate of a linear model transfers as well as anything: that is no sign of a mask."""
    space = {}
    exec(MODULE, space)
    images, labels = space["data"]()

    def answer(pixels):
        logits = scale * space["net"]()(torch.as_tensor(pixels)).detach()
        return (logits.softmax(1) if gives == "probabilities" else logits).numpy()

    result = audit(answer, images, labels, epsilon=0.1, n=40, gives=gives, figures=False)
    assert result.verdict == "no illusion found" and result.as_served.percent < 50


class InPlace(nn.Module):
    """Normalises the tensor that it was given."""

    def __init__(self, net):
        super().__init__()
        self.net = net

    def forward(self, images):
        return self.net(images.sub_(0.1))


def rough(logits):
    """Logits of which some are NaN."""
    return torch.where(logits > logits.mean(), torch.nan, logits)


@pytest.mark.parametrize(
    ("make", "options", "verdict", "sentence"),
    [
        (lambda net: lambda x: net(x).detach().numpy(), {}, None, "audited as a black box"),
        (lambda net: lambda x: net(x).tolist(), {}, None, "audited as a black box"),
        (lambda net: lambda x: net(torch.from_numpy(x)).numpy(), {}, None, "takes numpy arrays"),
        (lambda net: lambda x: net(x).softmax(1), {}, "no illusion found", "at most"),
        (lambda net: lambda x: net(x).argmax(1), {}, None, "labels only"),
        (lambda net: lambda x: net(x).softmax(1), {"gives": "logits"}, "broken", "softmax would be applied twice"),
        (lambda net: lambda x: rough(net(x)), {"gives": "logits"}, "broken", "of 80 answers hold NaN"),
        (lambda net: lambda x: (2e4 * net(x)).softmax(1).log(), {}, None, "return log_softmax"),
        (lambda net: lambda x: net(x)[:, 1] - net(x)[:, 0], {}, "no illusion found", "one column z"),
        (lambda net: lambda x: -net(x), {}, "broken", "the labels are permuted"),
        (lambda net: InPlace(net), {}, "broken", "changes its inputs in place"),
        (lambda net: lambda x: {"logits": net(x)}, {}, "no illusion found", "at most"),
    ],
)
def test_what_stopped_an_evaluation_gets_a_verdict_and_a_sentence(folder, make, options, verdict, sentence):
    """Everything that today's users meet as an exception of somebody's code."""
    space = {}
    exec(MODULE, space)
    images, labels = space["data"]()
    net = space["net"]().requires_grad_(False)
    result = audit(make(net), images, labels, epsilon=0.02, n=40, **options)
    assert verdict in (None, result.verdict)
    assert sentence in " ".join(str(result).split())
