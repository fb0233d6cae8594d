"""The run itself: order, what runs again, what is said of a failure, stopping and going on."""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import nbformat
import psutil
import pytest
from filelock import FileLock

from robustlib.__main__ import main
from robustlib.course.run.execute import Execution
from robustlib.course.run.forecast import Forecast
from robustlib.course.run.runner import Options, run
from robustlib.course.run.state import Step, fingerprint, library_digest, select_notebooks
from robustlib.study.profiles import get_profile

SMOKE = get_profile("smoke")  # its data set comes with scikit-learn: no test here needs a network
HEADLINE = {
    "summary": lambda results: f"headline of {results.name}",
    "write_scorecard": lambda results, left_out: results,
}
NOTE = "with open('../order.txt', 'a') as file: file.write('{} ')"


def make_root(root: Path, patch) -> Path:
    """A checkout without a notebook, its own results, a headline, and a library that nobody edits."""
    (root / "run_all.sh").touch()
    (root / "notebooks").mkdir()
    patch.setenv("ROBUSTLIB_ROOT", str(root))
    patch.setenv("ROBUSTLIB_RESULTS", str(root / "results"))
    for name, function in HEADLINE.items():
        patch.setattr(f"robustlib.study.claims.scorecard.{name}", function)
    patch.setattr("robustlib.course.run.state.library_digest", lambda package: "library")
    return root


@pytest.fixture(scope="module")
def root(tmp_path_factory, write_notebook):
    """A checkout with four notebooks: one fails, one kills its kernel, one misspells a parameter, one works."""
    patch = pytest.MonkeyPatch()
    root = make_root(tmp_path_factory.mktemp("a study"), patch)
    folder = root / "notebooks"
    write_notebook(folder / "01_fails.ipynb", NOTE.format(1), "\nraise ValueError('logits\\nare wrong')", "1 / 0")
    write_notebook(folder / "02_dies.ipynb", NOTE.format(2), "import os\nos.kill(os.getpid(), 9)")
    write_notebook(
        folder / "03_misspells.ipynb", NOTE.format(3), parameters="profle = 'quick'\nseed = 7\nsolutions = False"
    )
    write_notebook(
        folder / "04_works.ipynb",
        NOTE.format(4),
        "import os, sys, robustlib\nsys.stderr.write('\\rPGD:  20%')\n"
        "print('kernel', sys.executable, os.path.basename(os.getcwd()), profile, seed)",
        "ballast = b'x' * 300 * 2**20; del ballast\nprint('refresh', os.environ.get('ROBUSTLIB_REFRESH'))",
    )
    yield root
    patch.undo()


def run_and_read(**options) -> tuple[int, str]:
    stream = io.StringIO()
    with contextlib.redirect_stdout(stream):
        status = run(SMOKE, Options(**{"workers": 1} | options))
    return status, stream.getvalue()


def planned(**options) -> list[str]:
    """What a dry run says of each notebook, without the last line."""
    status, text = run_and_read(dry_run=True, **options)
    assert status == 0 and "ROBUSTLIB_FETCH" not in os.environ  # nothing is left behind for whoever runs next
    return [line.strip() for line in text.splitlines()[:-1]]


def outputs(path: Path) -> str:
    cells = nbformat.read(path, 4).cells
    return "".join(output.get("text", "") for cell in cells for output in cell.get("outputs", []))


@pytest.fixture(scope="module")
def first(root):
    status, text = run_and_read()
    return status, text, json.loads((root / "results/smoke/run.json").read_text())["notebooks"]


def test_by_default_a_run_takes_every_processor_though_its_kernels_take_one(root, first, monkeypatch):
    monkeypatch.delenv("ROBUSTLIB_WORKERS")
    monkeypatch.setattr("robustlib.study.pool.joblib.cpu_count", lambda: 3)
    monkeypatch.setattr("robustlib.study.pool.WORKER_BYTES", 1)
    used = []
    monkeypatch.setattr("robustlib.course.run.runner.compute", lambda units, *, workers, **_: used.append(workers))
    run_and_read(workers=None, only="04")
    assert used == [3]


def test_a_failure_is_named_with_cell_error_and_copy_and_stops_no_other_notebook(root, first):
    status, text, state = first
    assert status == 1
    # 03 is refused before it starts
    assert (root / "order.txt").read_text().split() == ["1", "2", "4"]
    assert [state[name]["status"] for name in sorted(state)] == ["failed", "failed", "failed", "done"]
    assert "3 of 4 notebooks failed" in text
    assert "01_fails, In [4]: raise ValueError('logits\\nare wrong')\n    ValueError: logits\n    are wrong\n" in text
    assert f"executed copy: {root}/results/smoke/notebooks/01_fails.ipynb" in text
    assert "02_dies, In [4]: import os\n    DeadKernel: the kernel ended without a Python error" in text
    assert "declares no parameter 'profile'" in text and "it declares profle, seed, solutions\n" in text
    assert not (root / "results/smoke/notebooks/03_misspells.ipynb").exists()


def test_the_kernel_is_this_python_in_the_notebooks_folder_with_the_parameters(root, first):
    copy = root / "results/smoke/notebooks/04_works.ipynb"
    assert f"kernel {sys.executable} notebooks smoke 0" in outputs(copy)
    assert "refresh None" in outputs(copy)
    assert str(root) not in copy.read_text().replace(sys.executable, "")


def test_time_peak_memory_and_where_things_are_is_said(root, first):
    _, text, state = first
    entry = state["04_works"]
    assert 0 < entry["seconds"] < 60
    # the ballast was gone again before the cell ended
    assert 320 < entry["peak_memory_mb"] < 1000
    assert re.search(rf"04_works: done in \d\d:\d\d, peak memory {entry['peak_memory_mb']} MB", text)
    assert f"Executed notebooks   {root}/results/smoke/notebooks" in text and "headline of smoke" in text


@pytest.mark.skipif(sys.platform != "linux", reason="kernels are forked on Linux only")
def test_kernels_are_forks_that_have_imported_the_library_and_show_figures_inline(
    tmp_path, monkeypatch, write_notebook
):
    monkeypatch.setenv("ONLY_HERE", "set after the fork server began")
    write_notebook(
        make_root(tmp_path, monkeypatch) / "notebooks/01_a.ipynb",
        "import os, sys\nprint('torch' in sys.modules, os.environ['ONLY_HERE'], os.getsid(0) == os.getpid())\n"
        "print('keeps', os.environ['MALLOC_TRIM_THRESHOLD_'])",
        "import matplotlib.pyplot as plt\nplt.plot([1, 2]);",
        "import numpy as np\nprint('drawn', np.random.rand(), sep=':')",
    )
    drawn = []
    for _ in range(2):
        status, text = run_and_read(refresh=True)
        assert status == 0, text
        copy = tmp_path / "results/smoke/notebooks/01_a.ipynb"
        assert "True set after the fork server began True" in outputs(copy)
        assert f"keeps {2**30}" in outputs(copy)
        assert any(
            "image/png" in output.get("data", {})
            for cell in nbformat.read(copy, 4).cells[2:]
            for output in cell.get("outputs", [])
        )
        drawn.append(re.search(r"drawn:(\S+)", outputs(copy))[1])
    assert drawn[0] != drawn[1]  # numpy is seeded in each kernel, not once for all


def test_only_what_has_changed_runs_again(root, first, write_notebook):
    write_notebook(root / "notebooks/01_fails.ipynb", NOTE.format(1), "print('mended')")
    before = (root / "results/smoke/notebooks/04_works.ipynb").stat().st_mtime_ns
    status, text = run_and_read(only="1,04")
    assert status == 0
    assert "01_fails: 0 units, about 00:20 (failed last time)" in text
    assert "04_works: unchanged" in text
    assert (root / "results/smoke/notebooks/04_works.ipynb").stat().st_mtime_ns == before
    assert planned() == [
        "01_fails: unchanged",
        "02_dies: 0 units, about 00:20 (failed last time)",
        "03_misspells: 0 units, about 00:20 (failed last time)",
        "04_works: unchanged",
    ]


def test_refresh_runs_again_and_tells_the_cache(root, first):
    status, text = run_and_read(only="4", refresh=True)
    seconds = f"{int(first[2]['04_works']['seconds']):02}"
    assert (status, f"04_works: 0 units, about 00:{seconds} (refresh)" in text) == (0, True)  # by the last run
    assert re.search(r"refresh \d{10}", outputs(root / "results/smoke/notebooks/04_works.ipynb"))
    assert "ROBUSTLIB_REFRESH" not in os.environ


@pytest.mark.parametrize(
    ("file", "content", "reason"),
    [
        ("notebooks/04_works.ipynb", None, "its copy is gone"),
        ("run.json", '{"notebooks": {', "never run"),
        (None, None, "changed"),
    ],
    ids=["copy deleted", "state damaged", "library changed"],
)
def test_what_else_makes_a_notebook_run_again(root, first, monkeypatch, file, content, reason):
    assert planned(only="4") == ["04_works: unchanged"]
    path = root / "results/smoke" / (file or "run.json")
    saved = path.read_bytes()
    if file is None:
        monkeypatch.setattr("robustlib.course.run.state.library_digest", lambda package: "another library")
    elif content is None:
        path.unlink()
    else:
        path.write_text(content)
    (line,) = planned(only="4")
    assert line.startswith("04_works: 0 units, about 00:") and line.endswith(f"({reason})")
    path.write_bytes(saved)


def test_a_notebook_that_reads_records_runs_again_after_those_that_made_them(tmp_path, monkeypatch, write_notebook):
    measures = make_root(tmp_path, monkeypatch) / "notebooks/01_measures.ipynb"
    write_notebook(measures, "1")
    write_notebook(tmp_path / "notebooks/02_judges.ipynb", "2", robustlib={"reads_records": True})
    record = tmp_path / "results/smoke/records/01_measures-seed0.csv"
    record.parent.mkdir(parents=True)
    record.touch()

    def reasons(**options) -> list[str]:
        return [line.split("(")[-1] for line in planned(**options)]

    assert run_and_read()[0] == 0
    assert reasons() == ["01_measures: unchanged", "02_judges: unchanged"]
    write_notebook(measures, "2")
    assert reasons() == ["changed)", "new records)"]
    # on its own it reads what was there before
    assert reasons(only="2") == ["02_judges: unchanged"]
    write_notebook(measures, "1")
    # as another run, of 01 alone, leaves them
    copied = (tmp_path / "results/smoke/notebooks/02_judges.ipynb").stat().st_mtime
    os.utime(record, (copied + 1, copied + 1))
    assert reasons() == ["01_measures: unchanged", "new records)"]


def test_the_longest_notebooks_run_first_and_those_that_read_records_last(tmp_path, monkeypatch, write_notebook):
    folder, order = make_root(tmp_path, monkeypatch) / "notebooks", []
    entries = {"01_a": {"seconds": 1.0}, "02_b": {"seconds": 5.0}, "03_judges": {"seconds": 9.0}}
    for name in entries:
        write_notebook(folder / f"{name}.ipynb", "1", robustlib={"reads_records": name == "03_judges"})
    (tmp_path / "results/smoke").mkdir(parents=True)
    (tmp_path / "results/smoke/run.json").write_text(json.dumps({"notebooks": entries}))
    executed = Execution(1.0, 1.0, "")
    monkeypatch.setattr("robustlib.course.run.runner.execute", lambda path, *_: order.append(path.stem) or executed)
    assert run_and_read()[0] == 0
    assert order == ["02_b", "01_a", "03_judges"]


def test_a_notebook_that_never_ran_here_takes_as_long_as_where_the_profile_was_published(
    tmp_path, monkeypatch, write_notebook
):
    folder = make_root(tmp_path, monkeypatch) / "notebooks"
    published = tmp_path / "results/published/smoke/run.json"
    published.parent.mkdir(parents=True)
    published.write_text(json.dumps({"notebooks": {"02_b": {"seconds": 70.0}, "01_a": {"seconds": 9.0}}}))
    for name in ("01_a", "02_b", "03_new"):
        write_notebook(folder / f"{name}.ipynb", "1")
    assert planned() == [
        "01_a: 0 units, about 00:09 (never run)",
        "02_b: 0 units, about 01:10 (never run)",
        "03_new: 0 units, about 00:20 (never run)",
    ]
    order, executed = [], Execution(1.0, 1.0, "")
    monkeypatch.setattr("robustlib.course.run.runner.execute", lambda path, *_: order.append(path.stem) or executed)
    assert run_and_read()[0] == 0 and order[0] == "02_b"


def test_a_budget_chooses_what_carries_most_of_the_scorecard_and_says_what_is_left_out(root, first):
    steps = [
        Step(Path(f"{name}.ipynb"), Path(), "", "never run", None, name.startswith("14"))
        for name in ("00_a", "04_b", "06_c", "09_d", "14_e")
    ]
    seconds = dict(zip(steps, ((10.0, 5.0), (80.0, 5.0), (200.0, 5.0), (60.0, 5.0), (0.0, 5.0)), strict=True))
    ordered = tuple(steps[k] for k in (1, 2, 3, 0, 4))
    forecast = Forecast(ordered, {step: [] for step in steps}, seconds, (), workers=2)
    assert [step.name for step in forecast.within(100.0).steps] == ["04_b", "09_d", "00_a", "14_e"]  # 06 takes 102
    assert [step.name for step in forecast.within(None).steps] == ["04_b", "06_c", "09_d", "00_a", "14_e"]
    _, text = run_and_read(refresh=True, budget=1e-3)
    assert "Left out for lack of time: 01_fails, 02_dies, 03_misspells, 04_works." in text


def test_a_second_run_of_a_profile_is_told_who_holds_it(root, first):
    results = root / "results/smoke"
    with FileLock(results / ".run.lock"):
        (results / ".run.lock").write_text("process 4711, since 2026-01-01 12:00:00")
        status, text = run_and_read(only="4")
    assert status == 1
    assert "another run of the profile smoke is at work (process 4711, since 2026-01-01 12:00:00)" in text


def test_what_a_deleted_notebook_left_is_removed(root, first, write_notebook):
    shutil.copy(root / "notebooks/04_works.ipynb", root / "notebooks/05_old.ipynb")
    assert run_and_read(only="5")[0] == 0
    (root / "notebooks/05_old.ipynb").unlink()
    assert run_and_read(only="4")[0] == 0
    assert not (root / "results/smoke/notebooks/05_old.ipynb").exists()
    assert "05_old" not in json.loads((root / "results/smoke/run.json").read_text())["notebooks"]


CELL = {"cell_type": "code", "source": ["logits = ", "model(x)"], "metadata": {"tags": ["solution"]}}
BASE = ([CELL], {"profile": "smoke", "seed": 0}, "library", ["digits"])


@pytest.mark.parametrize(
    ("position", "value"),
    [
        (0, [{**CELL, "source": ["logits = model(y)"]}]),
        (0, [{**CELL, "metadata": {"tags": []}}]),
        (0, [CELL, {"cell_type": "markdown", "source": "Prose.", "metadata": {}}]),
        (1, {"profile": "smoke", "seed": 1}),
        (2, "another library"),
        (3, [""]),
    ],
    ids=["source", "tag", "prose", "parameter", "library", "data"],
)
def test_the_fingerprint_sees_what_counts(position, value):
    changed = [*BASE[:position], value, *BASE[position + 1 :]]
    assert fingerprint(*changed) != fingerprint(*BASE)


def test_the_fingerprint_ignores_outputs_and_how_the_source_is_stored():
    executed = {**CELL, "source": "logits = model(x)", "outputs": [{"text": "1"}], "execution_count": 3, "id": "a"}
    assert fingerprint([executed], *BASE[1:]) == fingerprint(*BASE)


def test_the_library_digest_sees_sources_and_tables_and_no_prose(tmp_path):
    def digest(name: str, source: str = "x = 1", table: str = "1,2") -> str:
        (tmp_path / name / "paper").mkdir(parents=True)
        (tmp_path / name / "a.py").write_text(source)
        (tmp_path / name / "paper" / "t.csv").write_text(table)
        return library_digest(tmp_path / name)

    digests = [digest("first"), digest("source", source="x = 2"), digest("table", table="1,3")]
    assert len(set(digests)) == 3
    assert digest("prose", source="# why\nx = 1\n") == digests[0]


def test_notebooks_are_selected_by_number_and_in_order(tmp_path):
    for name in ("02_b", "00_a", "10_c", "draft"):
        (tmp_path / f"{name}.ipynb").touch()
    assert [path.stem for path in select_notebooks(tmp_path)] == ["00_a", "02_b", "10_c"]
    assert [path.stem for path in select_notebooks(tmp_path, "10, 2,02")] == ["02_b", "10_c"]

    for only, named in (("3", "3"), ("02,x", "x"), ("", "NN_"), ("-2", "-2")):
        with pytest.raises(ValueError, match=f"no notebook with number {named}; there are 00, 02, 10"):
            select_notebooks(tmp_path, only)
    with pytest.raises(ValueError, match="no notebook with number NN_; there are none in"):
        select_notebooks(tmp_path / "empty")


# Stopping needs a process of its own.

PROGRAM = """
import sys, types
import robustlib.course.run.state
robustlib.course.run.state.library_digest = lambda package: "library"
import robustlib.study.claims.scorecard as scorecard
scorecard.summary, scorecard.write_scorecard = lambda results: "headline", lambda results, left_out: results
from robustlib.__main__ import main
sys.exit(main())
"""


class Process:
    """`python -m robustlib run smoke` over a checkout whose notebook 02 waits for the file `go`."""

    def __init__(self, root: Path, workers: int = 1):
        self.root = root
        (root / "kernel.txt").unlink(missing_ok=True)
        command = [sys.executable, "-c", PROGRAM, "run", "smoke", "--workers", str(workers)]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)

    def wait_for_the_second_notebook(self) -> psutil.Process:
        wait_until(lambda: (self.root / "kernel.txt").exists() and (self.root / "kernel.txt").read_text())
        return psutil.Process(int((self.root / "kernel.txt").read_text()))

    def end(self, number: int | None = None) -> tuple[int, str]:
        if number:
            self.process.send_signal(number)
        text, _ = self.process.communicate(timeout=120)
        return self.process.returncode, text


def wait_until(condition, seconds: float = 120.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited too long"
        time.sleep(0.05)


def test_a_run_that_is_stopped_or_killed_leaves_no_kernel_and_goes_on_where_it_was(
    tmp_path, monkeypatch, write_notebook
):
    make_root(tmp_path, monkeypatch)
    write_notebook(tmp_path / "notebooks/01_quick.ipynb", NOTE.format(1))
    waits = "import os, time\nopen('../kernel.txt', 'w').write(str(os.getpid()))"
    write_notebook(
        tmp_path / "notebooks/02_long.ipynb",
        waits,
        "while not os.path.exists('../go'): time.sleep(0.05)",
        NOTE.format(2),
    )
    stopped = Process(tmp_path)
    kernel = stopped.wait_for_the_second_notebook()
    status, text = stopped.end(signal.SIGINT)
    assert status == 130
    assert "Interrupted. What is finished is kept; go on with: ./run_all.sh smoke" in text
    assert "Traceback" not in text
    wait_until(lambda: not kernel.is_running(), 5)

    killed = Process(tmp_path)
    kernel = killed.wait_for_the_second_notebook()
    status, text = killed.end(signal.SIGKILL)
    assert status == -signal.SIGKILL
    assert "01_quick: unchanged" in text
    wait_until(lambda: not kernel.is_running(), 10)

    (tmp_path / "go").touch()
    status, text = Process(tmp_path).end()
    assert (status, "headline" in text) == (0, True), text
    assert "01_quick: unchanged" in text and "[1/1] 02_long: done" in text
    assert (tmp_path / "order.txt").read_text().split() == ["1", "2"]


def test_an_interrupt_between_units_keeps_those_that_are_done(tmp_path, monkeypatch, write_notebook):
    make_root(tmp_path, monkeypatch)
    monkeypatch.setenv("ROBUSTLIB_CACHE", str(tmp_path / "cache"))
    write_notebook(tmp_path / "notebooks/04_piercing_the_illusion.ipynb", "1")
    stopped = Process(tmp_path, workers=2)
    wait_until(lambda: len(list(tmp_path.glob("cache/unit/*.safetensors"))) > 3)
    status, text = stopped.end(signal.SIGINT)
    assert (status, "What is finished is kept" in text, "Traceback" in text) == (130, True, False), text
    before, after = (int(re.search(r"(\d+) units, about", said)[1]) for said in (text, planned()[0]))
    assert 0 < after < before - 3


def test_results_that_cannot_be_written_are_one_line_with_the_way_out(tmp_path, monkeypatch, write_notebook, capsys):
    write_notebook(make_root(tmp_path, monkeypatch) / "notebooks/01_a.ipynb", "1")
    folder = tmp_path / "results"
    folder.mkdir()
    folder.chmod(0o555)
    assert main(["run", "smoke"]) == 2
    message = f"{folder}/smoke cannot be written to; name a writable folder in ROBUSTLIB_RESULTS"
    assert capsys.readouterr().err == f"python -m robustlib run: {message}\n"
