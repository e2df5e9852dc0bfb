"""Reports: one file that opens without a network, and whose charts say what the record says."""

import json
import os
import re
import shutil

import numpy as np
import pytest
from plotly.offline import get_plotlyjs

from bpx import compare
from bpx.records import read, read_metrics
from bpx.reports.page import Section, page
from bpx.reports.write import write_run_report, write_study_report, write_sweep_report
from bpx.runs.run import train_run
from bpx.runs.study import compose
from bpx.stored.groups import trained_groups
from bpx.stored.study_data import StudyResult

WORDS = (
    "tracking=none",
    "progress=false",
    "tracking.figures=false",
    "model.depth=4",
    "epochs=2",
    "dataset.val_size=0.2",
)
FLAGS = (
    "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync --window-size=1200,2000"
).split()
WITHIN = 60  # seconds


def train(home, *words):
    return train_run(compose(*WORDS, *words), "r", home / "outputs" / "tests", list(words), quiet=True).directory


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    return tmp_path_factory.mktemp("reports")


@pytest.fixture(scope="module")
def runs(home):
    return [
        train(home, f"activation={activation}", f"seed={seed}") for activation in ("tanh", "relu") for seed in (0, 1)
    ]


@pytest.fixture(scope="module")
def browser():
    """Return headless Chromium, without a network."""
    programs = [shutil.which(name) for name in ("chromium", "chromedriver")]
    if not all(programs) and not os.environ.get("BPX_TEST_ALL"):
        pytest.skip("needs chromium and chromedriver (Debian: chromium, chromium-driver)")
    from selenium import webdriver
    from selenium.webdriver.chrome.options import Options
    from selenium.webdriver.chrome.service import Service

    options = Options()
    options.binary_location = programs[0]
    for flag in FLAGS:
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(service=Service(programs[1]), options=options)
    driver.set_page_load_timeout(WITHIN)
    driver.execute_cdp_cmd("Network.enable", {})
    gone = {"offline": True, "latency": 0, "downloadThroughput": 0, "uploadThroughput": 0}
    driver.execute_cdp_cmd("Network.emulateNetworkConditions", gone)
    yield driver
    driver.quit()


def opened(browser, path, charts):
    """Open a report and wait until its charts are drawn; the console must hold no error, and nothing was fetched."""
    from selenium.webdriver.support.ui import WebDriverWait

    browser.get_log("browser")
    browser.get(path.absolute().as_uri())
    WebDriverWait(browser, WITHIN).until(lambda b: len(b.find_elements("css selector", ".js-plotly-plot")) == charts)
    assert not browser.find_elements("css selector", "[data-title^='Share']")  # which would upload the chart
    sound(browser)


def sound(browser):
    assert [entry for entry in browser.get_log("browser") if entry["level"] == "SEVERE"] == []
    assert browser.execute_script("return performance.getEntriesByType('resource').map(e => e.name)") == []


def traces(browser, chart):
    """Return what a chart draws: name and values of every line."""
    script = "return [...document.querySelectorAll('.js-plotly-plot')][arguments[0]].data.map(t => [t.name, [...t.y]])"
    return browser.execute_script(script, chart)


def choose(browser, name, value, place=0):
    """Choose a value in the control that is called ``name``, as a hand would."""
    from selenium.webdriver.support.ui import Select

    element = browser.find_elements("css selector", f"[aria-label='{name}']")[place]
    if element.tag_name == "select":
        Select(element).select_by_value(value)
    elif element.get_attribute("type") == "checkbox":
        element.click()
    else:
        browser.execute_script("arguments[0].value = arguments[1]; arguments[0].oninput()", element, value)
    sound(browser)


@pytest.mark.slow
def test_the_report_of_a_run_shows_its_record_in_a_browser_without_a_network(runs, browser):
    path = write_run_report(runs[0])
    opened(browser, path, 3)
    records, series = read(runs[0] / "gradient_flow.parquet"), read_metrics(runs[0] / "metrics.jsonl")
    costs = dict(traces(browser, 0))
    np.testing.assert_allclose(costs["cost/train"], series["cost/train"][1], rtol=1e-3)
    steps, _, delta = records.grid("delta_l2")
    assert [name for name, _ in traces(browser, 1)][-2:] == ["theory, at initialization", "tests/" + runs[0].name]
    np.testing.assert_allclose(traces(browser, 1)[-1][1], delta[:, 0], rtol=1e-3)
    choose(browser, "step", str(len(steps) - 1))
    np.testing.assert_allclose(traces(browser, 1)[-1][1], delta[:, -1], rtol=1e-3)
    assert f"step {steps[-1]}" in browser.find_element("tag name", "body").text
    assert len(traces(browser, 2)) == len(delta)
    choose(browser, "layer", "2")
    ((name, values),) = traces(browser, 2)
    assert name == "layer 3"
    np.testing.assert_allclose(values, delta[2], rtol=1e-3)
    choose(browser, "quantity", "weight_norm")
    _, _, norms = records.grid("weight_norm")
    np.testing.assert_allclose(traces(browser, 1)[-1][1], norms[:, -1], rtol=1e-3)
    kind = "return [...document.querySelectorAll('.js-plotly-plot')][1].layout.yaxis.type"
    before = browser.execute_script(kind)
    choose(browser, "log y", "", place=1)
    assert {before, browser.execute_script(kind)} == {"log", "linear"}
    text = browser.find_element("tag name", "body").text
    assert "Gradients are" in text and "python -m bpx.train activation=tanh seed=0" in text


@pytest.mark.slow
@pytest.mark.torch
def test_the_report_of_a_watched_pytorch_model_shows_its_record(home, browser):
    torch = pytest.importorskip("torch")
    from bpx.torch import watch

    torch.manual_seed(0)
    parts = [part for n in (6, 9, 9, 9) for part in (torch.nn.Linear(n, 9), torch.nn.Tanh())]
    model = torch.nn.Sequential(*parts, torch.nn.Linear(9, 3))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    x, y = torch.randn(16, 6), torch.arange(16) % 3
    with watch(model, optimizer, every=2, tracking="none", directory=home / "watched") as watched:
        for _ in range(6):
            optimizer.zero_grad()
            loss = torch.nn.functional.cross_entropy(model(x), y)
            loss.backward()
            watched.log({"cost/train": loss.item()})
            optimizer.step()
    opened(browser, watched.directory / "report.html", 3)
    records, series = (
        read(watched.directory / "gradient_flow.parquet"),
        read_metrics(watched.directory / "metrics.jsonl"),
    )
    np.testing.assert_allclose(dict(traces(browser, 0))["cost/train"], series["cost/train"][1], rtol=1e-3)
    steps, _, delta = records.grid("delta_l2")
    choose(browser, "step", str(len(steps) - 1))
    np.testing.assert_allclose(traces(browser, 1)[-1][1], delta[:, -1], rtol=1e-3)
    assert watched.finding.sentence in browser.find_element("tag name", "body").text


@pytest.mark.slow
def test_the_report_of_a_comparison_has_a_line_for_each_group(runs, browser, home, monkeypatch, capsys):
    monkeypatch.chdir(home)
    assert compare.main(["outputs/tests", "out=both.png"]) == 0
    assert "report    both.html" in capsys.readouterr().out
    opened(browser, home / "both.html", 3)
    drawn = [(name, values) for name, values in traces(browser, 1) if not name.startswith("theory")]
    assert sorted(name for name, _ in drawn) == ["relu", "tanh"]
    tanh = np.median([read(run / "gradient_flow.parquet").grid("delta_l2")[2][:, 0] for run in runs[:2]], axis=0)
    np.testing.assert_allclose(dict(drawn)["tanh"], tanh, rtol=1e-3)
    choose(browser, "metric", "accuracy")
    assert {name for name, _ in traces(browser, 0)} >= {"tanh: accuracy/val", "relu: accuracy/test"}


@pytest.mark.slow
def test_the_report_of_a_sweep_shows_every_trial(browser, tmp_path):
    rows = ["trial,outcome,directory,optimizer.lr,activation,cost/val"]
    rows += [
        f"{i},{'diverged' if i == 3 else 'finished'},,{10.0**-i},{'tanh' if i % 2 else 'relu'},{i}" for i in range(5)
    ]
    (tmp_path / "trials.csv").write_text("\n".join(rows).replace("3,diverged,,0.001,tanh,3", "3,diverged,,0.001,tanh,"))
    about = {"name": "s", "objective": ["cost/val"], "direction": ["minimize"], "dataset": "toy", "depth_scale": {}}
    space = {"optimizer.lr": "interval(1e-4,1)", "activation": "choice(relu,tanh)"}
    (tmp_path / "study.json").write_text(json.dumps(about | {"space": space}))
    opened(browser, write_sweep_report(tmp_path), 2)
    assert {name: len(values) for name, values in traces(browser, 0)} == {"finished": 4, "diverged": 1}
    choose(browser, "y", "cost/val")
    assert dict(traces(browser, 0))["finished"] == [0, 1, 2, 4]
    assert "Best of 5 trials: trial 0" in browser.find_element("tag name", "body").text


@pytest.mark.slow
def test_the_report_of_a_study_shows_its_finding_numbers_and_runs(runs, browser, tmp_path):
    from PIL import Image

    for run in runs:  # as a study keeps them: a folder for each setup
        setup = tmp_path / "runs" / ("tanh" if run in runs[:2] else "relu")
        setup.mkdir(parents=True, exist_ok=True)
        shutil.copytree(run, setup / run.name)
    Image.new("RGB", (40, 20)).save(tmp_path / "s.png")
    finding = "Of <b>two</b> activations both train."
    told = StudyResult("s", "Which trains?", finding, 2, True, {"accuracy": 0.9}, {}, tmp_path / "s.png")
    report = write_study_report(told, trained_groups(tmp_path), ["experiments.s", "seeds=2", "--quick"])
    opened(browser, report, 1)
    text = browser.find_element("tag name", "body").text
    for said in (
        "Which trains?",
        finding,
        "study s · 2 seeds",
        "accuracy",
        "0.9",
        "python -m experiments.s seeds=2 --quick",
    ):
        assert said in text, said
    assert browser.execute_script("return document.images[0].naturalWidth") == 40
    choose(browser, "metric", "accuracy")
    drawn = dict(traces(browser, 0))
    last = [read_metrics(run / "metrics.jsonl")["accuracy/test"][1][-1] for run in runs[:2]]
    np.testing.assert_allclose(drawn["tanh: accuracy/test"][-1], np.median(last), rtol=1e-3)
    assert {"tanh: accuracy/val", "relu: accuracy/test"} <= set(drawn)


def test_a_report_holds_everything_itself_and_escapes_what_it_is_given(runs):
    script = get_plotlyjs()
    text = write_run_report(runs[0]).read_text()
    assert text.count(script) == 1
    assert not re.search(r"<(script|link|img|iframe)[^>]*(src|href)=[\"']?(?!data:)", text.replace(script, ""))
    chart = {"kind": "metrics", "groups": [], "name": "</script><b>"}
    html = page("a <b> title", "", [Section("x", "", chart)])
    assert "</script><b>" not in html and "a &lt;b&gt; title" in html
    assert json.loads(re.search(r'id="data">(.*?)</script>', html)[1])[0] == chart


def test_a_run_leaves_its_report(tmp_path):
    directory = train(tmp_path, "tracking.figures=true", "max_steps=3")
    text = (directory / "report.html").read_text()
    assert "data:image/png;base64," in text and "· finished</p>" in text
    assert not (train(tmp_path, "max_steps=3") / "report.html").exists()
