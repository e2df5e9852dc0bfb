"""python -m bpx.theory: its table, its picture, and its errors in one line."""

import math

import pytest
from conftest import call
from matplotlib.image import imread

from bpx.cli.command import terminal
from bpx.cli.theory import architecture
from bpx.config.plan import make_plan
from bpx.runs.study import compose
from bpx.system.errors import NoAnswerError
from bpx.system.tree import options_of


def theory(directory, *overrides):
    return call(directory, "bpx.theory", *overrides, env={"COLUMNS": "120"})


def test_table_and_phase_diagram(tmp_path):
    done = theory(tmp_path, "activation=tanh", "initializer.sigma_w=2", "model.depth=30")
    assert done.code == 0, done.err
    for number in ("2.12147", "1.36267", "exploding"):
        assert number in done.out
    (picture,) = (tmp_path / "outputs" / "theory").glob("*.png")
    assert picture.name in done.out
    assert imread(picture).std() > 0.1


@pytest.mark.parametrize(
    ("override", "text"),
    [
        ("initializer=zeros", "no answer"),
        ("initializer.sigma_w=-1", "at least 0"),
        ("model.depth=0", "model.depth"),
        ("activation=sine", "tanh"),
    ],
)
def test_a_users_error_is_one_line_and_exit_code_2(tmp_path, override, text):
    done = theory(tmp_path, override)
    assert done.code == 2
    assert len(done.err.strip().splitlines()) == 1 and text in done.err


@pytest.mark.parametrize("model", options_of("model"))
def test_theory_of_one_layer_is_an_answer_or_one_line(model):
    plan = make_plan(compose(f"model={model}", "model.hidden=[8]"))
    try:
        assert architecture(plan).hidden == (8,)
    except NoAnswerError as error:
        assert str(error).startswith("theory has no answer for ")
        assert model in ("convnet", "gru", "lstm", "rnn", "transformer")


def test_one_layer_has_no_slope(capsys):
    from bpx.cli.theory import table
    from bpx.engine.rectifiers import ReLU
    from bpx.theory import Architecture, mean_field, predict

    net = Architecture(ReLU(), (100, 100, 100), (0.14, 0.14))
    terminal().print(table(net, [1.4], mean_field(net.activation, 1.4), predict(net, 1.0)))
    said = capsys.readouterr().out
    assert "none: there is one hidden layer" in said and "+0.0000" not in said and "layer there" not in said


WIDTHS = [1024, 512, 256, 128, 64, 32, 16, 8]


def rows(done):
    """Return the table's rows: label to value."""
    cells = (line.strip("│ \n").split("│") for line in done.out.splitlines() if line.startswith("│"))
    return {label.strip(): value.strip() for label, value in cells}


@pytest.mark.parametrize("widths", [WIDTHS, WIDTHS[::-1]], ids=["narrowing", "widening"])
def test_a_funnel_has_one_consistent_table(tmp_path, widths):
    found = rows(theory(tmp_path, f"model.hidden={widths}", "initializer=he_normal"))
    assert found["factor of ‖δ‖ per layer, √χ₁"] == "×1"
    label = next(key for key in found if key.startswith("slope, 8 layers"))
    assert "1024" in label and "8 units" in label if widths[0] == 1024 else "8, 16" in label
    assert float(found["factor of ‖δ‖ per layer there"].strip("×")) == pytest.approx(1, abs=0.05)
    assert found["verdict"] == "healthy"


def test_in_a_funnel_xavier_has_the_sigma_w_of_its_widths(tmp_path):
    found = rows(theory(tmp_path, f"model.hidden={WIDTHS[:5]}", "initializer=xavier_normal", "activation=linear"))
    assert float(found["σw, σb"].split(",")[0]) ** 2 == pytest.approx(4 / 3)  # 2 n / (n + n / 2)
    factors = [float(found[f"factor of ‖δ‖ per layer{end}"].strip("×")) for end in (", √χ₁", " there")]
    assert factors == pytest.approx([math.sqrt(4 / 3)] * 2, rel=0.01)


def test_layers_of_several_sigma_w_have_no_fixed_point(tmp_path):
    done = theory(tmp_path, f"model.hidden={WIDTHS}", "initializer=normal", "initializer.std=0.05", "activation=tanh")
    found = rows(done)
    assert found["σw, σb"].startswith("0.2 to 1.6") and "χ₁: factor of ‖δ‖² per layer" not in found
    assert "no phase diagram" in done.out and found["verdict"] == "vanishing"
