"""The figures of gradient flow: drawn from a copy of the Parquet file alone, and showing what it holds."""

import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT, thinned

from bpx.diagnosis import diagnose_pass, observe, predict_network
from bpx.diagnosis.rows import about, predicted
from bpx.engine import lstm, mlp, residual_mlp, rnn, transformer
from bpx.engine.optimizers import sgd
from bpx.figures import backward_gains, draw_flow, idle_units, jacobian_spectrum, layer_profile, update_ratios
from bpx.figures.flow import FLOW, flow_figures
from bpx.figures.gains import gains_of
from bpx.figures.histograms import table
from bpx.figures.jacobian import spectra_of
from bpx.probes import PROBES, ProbeContext, ThroughTime
from bpx.probes.histograms import log_histogram
from bpx.probes.probe import weight_layers
from bpx.records import Key, RecordWriter, read

EVERYTHING = set(FLOW) | {"phase"}


def measured(path, net, initializer=None, steps=3, **optimizer):
    """Train a net of 6 inputs and 4 classes for some steps, and record all that probes see of it."""
    from bpx.engine.initializers import HeNormal

    rng = np.random.default_rng(1)
    net.initialize(initializer or HeNormal(), rng)
    net.bind(16, rng)
    x, y = rng.standard_normal((16, 6)).astype(net.dtype), rng.integers(0, 4, 16)
    optimizer = sgd(lr=0.05, **optimizer).bind(net.parameters)
    probes = [probe(ProbeContext(net, optimizer, x, y)) for probe in PROBES.values()]
    recurrent, sequences = rnn((7, 3), [5], 4).bind(16), rng.standard_normal((16, 7, 3)).astype("f")
    through_time = ThroughTime(ProbeContext(recurrent))  # what a net of dense layers has nothing for
    writer = RecordWriter(path)
    for step in range(steps):
        recurrent.cost(sequences, y)
        recurrent.backward()
        through_time.on_gradient(step)
        writer.append(step, step / 2, through_time.keys, through_time.values)
        net.cost(x, y)
        if step == 0:
            seen, _, prediction = predict_network(net)
            observation = observe(net)
        net.backward()
        for probe in probes:
            probe.on_gradient(step)
        optimizer.propose()
        for probe in probes:
            probe.on_update(optimizer)
            writer.append(step, step / 2, probe.keys, probe.values)
        if step == 0:
            observation = observe(net)
            writer.append(0, 0.0, *predicted(prediction, observation))
            finding = diagnose_pass(net, observation, prediction)
            writer.about = about(net, seen) | {"dataset": "sixes", "finding": finding.as_dict()}
        optimizer.apply()
    writer.close()
    return read(path)


@pytest.fixture(scope="module")
def tanh_record(tmp_path_factory):
    path = tmp_path_factory.mktemp("tanh") / "gradient_flow.parquet"
    measured(path, mlp(6, [12] * 5, 4, "tanh"))
    return path


@pytest.fixture
def records(tanh_record, tmp_path):
    shutil.copy(tanh_record, tmp_path)
    return read(tmp_path / tanh_record.name)


def drop(source, target, quantities):
    """Copy a record without some quantities."""
    rows, writer = read(source), RecordWriter(target)
    writer.about = rows.about
    for step in np.unique(rows.step):
        part = rows.select(step=step)
        kept = ~np.isin(part.quantity, list(quantities))
        columns = zip(part.layer[kept], part.operation[kept], part.quantity[kept], part.index[kept], strict=True)
        writer.append(int(step), float(part.epoch[0]), tuple(Key(*key) for key in columns), part.value[kept])
    writer.close()


def words(figure):
    from matplotlib.text import Text

    return " ".join(text.get_text() for text in figure.findobj(Text))


def lines(axes):
    return {line.get_label(): line for line in axes.lines}


def test_the_call_in_the_schema_draws_all_from_a_copy_of_the_parquet_file(records, tmp_path, monkeypatch):
    import bpx.figures

    text = (ROOT / "docs" / "record.md").read_text(encoding="utf-8")
    call = re.search(r"`(bpx\.figures\.draw_flow\(.*?\))`", text)[1]
    monkeypatch.chdir(tmp_path)
    paths = eval(call, {"bpx": bpx})
    assert {path.name for path in paths} == {f"{name}.png" for name in EVERYTHING}
    assert set(paths) == set(Path("figures").iterdir())
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in paths)


@pytest.mark.parametrize("name", thinned(FLOW, every=4))
def test_a_missing_quantity_leaves_its_figures_out_and_no_others(records, tmp_path, name):
    needed = FLOW[name][0]
    drop(tmp_path / "gradient_flow.parquet", tmp_path / "less.parquet", needed)
    left = {n for n, (wanted, _) in FLOW.items() if not wanted & needed}
    assert flow_figures(read(tmp_path / "less.parquet")).keys() == left | {"phase"}


@pytest.mark.parametrize(
    ("net", "missing"),
    [
        pytest.param(lambda: mlp(6, [12], 4, "relu"), {"phase"}, marks=pytest.mark.slow),
        pytest.param(
            lambda: mlp(6, [12] * 4, 4, "relu", normalization="batch"), {"phase", "ntk"}, marks=pytest.mark.slow
        ),
        (lambda: mlp(6, [12] * 4, 4, "relu", normalization="layer", dropout=0.2), {"phase"}),
        pytest.param(lambda: residual_mlp(6, [12] * 4, 4, "relu"), {"phase"}, marks=pytest.mark.slow),
        pytest.param(lambda: mlp(6, [12] * 60, 4, "sigmoid"), set(), marks=pytest.mark.slow),
    ],
    ids=["one hidden layer", "batch", "layer and dropout", "residual", "deep"],
)
def test_every_kind_of_network_has_its_figures(tmp_path, net, missing):
    measured(tmp_path / "r.parquet", net())
    assert {p.stem for p in draw_flow(tmp_path / "r.parquet", tmp_path / "f")} == EVERYTHING - missing


@pytest.mark.parametrize("steps", [1, 2])
def test_a_gradient_that_is_zero_everywhere_is_drawn_and_flagged(tmp_path, steps):
    from bpx.engine.initializers import Zeros

    rows = measured(tmp_path / "r.parquet", mlp(6, [12] * 4, 4, "relu"), Zeros(), steps)
    if steps == 1:  # of more the drawings are the same
        assert {p.stem for p in draw_flow(tmp_path / "r.parquet", tmp_path / "f")} == EVERYTHING - {"phase"}
    axes = backward_gains(rows).axes[0]
    flag = lines(axes)["exactly 0: nothing comes through"]
    assert flag.get_xdata().tolist() == [4]


@pytest.mark.parametrize("name", ["profile", "delta_heatmap", "gains"])
def test_the_finding_and_the_dataset_stand_on_the_figure(records, name):
    text = words(FLOW[name][1](records))
    assert records.about["finding"]["sentence"] in text
    assert "dataset: sixes" in text


@pytest.mark.parametrize("name", FLOW)
def test_every_figure_names_the_dataset_and_labels_its_axes(records, name):
    figure = FLOW[name][1](records)
    assert "dataset: sixes" in words(figure)
    assert figure.get_suptitle()


def test_the_profile_shows_what_was_measured_beside_theory(records):
    forward, backward = layer_profile(records).axes
    _, _, z = records.grid("preactivation_rms")
    _, _, delta = records.grid("delta_l2")
    assert lines(forward)["z, initialization"].get_ydata().tolist() == z[:, 0].tolist()
    assert lines(forward)["z, step 2"].get_ydata().tolist() == z[:, -1].tolist()
    assert lines(backward)["initialization"].get_ydata().tolist() == delta[:, 0].tolist()
    theory = lines(backward)["theory, 95 % band"]
    predicted_delta = records.select(quantity="predicted_delta_l2").value
    assert theory.get_xdata().tolist() == [1, 2, 3, 4, 5]
    np.testing.assert_array_equal(theory.get_ydata(), predicted_delta)
    band = backward.collections[0].get_paths()[0].vertices[:, 1]
    assert band.min() == records.select(quantity="predicted_delta_l2_low").value.min()


def test_a_record_without_a_band_has_its_line(records, tmp_path):
    bands = {f"predicted_{name}_{end}" for name in ("preactivation_rms", "delta_l2") for end in ("low", "high")}
    drop(tmp_path / "gradient_flow.parquet", tmp_path / "line.parquet", bands)
    figure = layer_profile(read(tmp_path / "line.parquet"))
    labels = [line.get_label() for axes in figure.axes for line in axes.lines]
    assert "z, theory" in labels and "theory" in labels and not any(axes.collections for axes in figure.axes)


def test_with_shortcuts_theory_draws_what_each_layer_adds(tmp_path):
    rows = measured(tmp_path / "r.parquet", residual_mlp(6, [200] * 6, 4, "tanh"))
    (line,) = [line for line in layer_profile(rows).axes[0].lines if line.get_label() == "z, theory"]
    _, _, own = rows.grid("preactivation_rms")
    np.testing.assert_allclose(line.get_ydata(), own[:-1, 0], rtol=0.2)
    _, _, q = rows.grid("predicted_preactivation_rms")
    assert q[-1, 0] > 1.5 * own[-2, 0]  # the sum is another quantity


@pytest.mark.parametrize("net", [mlp, residual_mlp])
def test_stacked_gains_add_up_to_the_total_attenuation(tmp_path, net):
    rows = measured(tmp_path / "r.parquet", net(6, [12] * 5, 4, "relu"))
    for step in (0, 2):
        _, _, l2 = rows.select(step=step).grid("delta_l2")
        total = np.log10(l2[:-1, 0] / l2[1:, 0])  # of each delta over the one that it comes from
        np.testing.assert_allclose(gains_of(rows, "backward_gain", step).total, total, atol=1e-5)
    if net is residual_mlp:
        inside = gains_of(rows, "branch_gain", 0)
        whole = rows.select(quantity="branch_gain", operation="branch", step=0)
        order = np.argsort(whole.layer)
        np.testing.assert_allclose(inside.total[: len(order)], np.log10(whole.value[order]), atol=1e-5)


def test_the_heat_map_of_magnitudes_holds_the_histogram_of_every_layer(tmp_path, rng):
    net = mlp(6, [12, 12], 4, "relu")
    rows = measured(tmp_path / "r.parquet", net, steps=1)
    for index, layer in enumerate(weight_layers(net)):
        shares = table(rows, "activation_histogram", 0)[index]
        np.testing.assert_array_equal(shares, log_histogram(layer.output.y))
        assert shares.sum() == pytest.approx(1)


def test_zeros_stand_apart_and_ticks_stand_at_their_decades(tmp_path):
    from bpx.figures import magnitude_histograms

    size, path = 56, tmp_path / "r.parquet"
    shares = np.zeros(size)
    shares[0], shares[2 + 2 * 17], shares[2 + 2 * 19] = 0.5, 0.25, 0.25  # zero, from 1e-3, from 1e-1
    keys = [Key("layer_01", "", q, i) for q in ("activation_histogram", "gradient_histogram") for i in range(size)]
    writer = RecordWriter(path)
    writer.about = {"histogram_decades": [-20, 6]}
    writer.append(0, 0.0, tuple(keys), np.tile(shares, 2))
    writer.close()
    axes = magnitude_histograms(read(path)).axes[0]
    row = np.asarray(axes.images[0].get_array()[0].filled(np.nan))
    at = {text.get_text(): x for x, text in zip(axes.get_xticks(), axes.get_xticklabels(), strict=True)}
    assert row[int(at["zero"])] == 0.5 and row[int(at["-3"])] == row[int(at["-1"])] == 0.25
    assert np.isnan(row[int(at["-2"])]) and np.nansum(row) == 0.5 * int(2 * at["zero"]) + 0.5


def test_the_spectrum_is_that_of_each_sample(tmp_path):
    net = mlp(6, [12] * 3, 4, "tanh")
    rows = measured(tmp_path / "r.parquet", net, steps=1)
    steps, spectra = spectra_of(rows)
    assert spectra.shape == (1, 4, 4) and steps.tolist() == [0]
    assert (np.diff(spectra, axis=2) <= 0).all()
    drawn = jacobian_spectrum(rows).axes[0].lines
    assert [line.get_ydata().tolist() for line in drawn] == spectra[0].tolist()


def test_saturation_and_dead_units_are_in_percent(records):
    axes = idle_units(records).axes[0]
    _, _, share = records.grid("saturation")
    drawn = np.array([path.vertices[:, 1] for path in axes.collections[0].get_paths()])
    np.testing.assert_allclose(drawn, 100 * share)


def recorded(path, model, *names):
    """Return the record of one step of a model of 5 positions of 4 features, of some probes."""
    rng = np.random.default_rng(1)
    net, x, y = model((5, 4), [6] * 2, 3).bind(8), rng.standard_normal((8, 5, 4), "f"), rng.integers(0, 3, 8)
    net.cost(x, y)
    net.backward()
    writer = RecordWriter(path)
    for name in names:
        probe = PROBES[name](ProbeContext(net, None, x, y))
        probe.on_gradient(0)
        writer.append(0, 0.0, probe.keys, probe.values)
    writer.about = about(net, predict_network(net)[0]) | {"dataset": "rows"}
    writer.close()
    return read(path)


def test_cells_without_an_activation_have_no_figure_of_units(tmp_path):
    assert idle_units(recorded(tmp_path / "lstm.parquet", lstm, "scales", "units")) is None
    assert idle_units(recorded(tmp_path / "rnn.parquet", rnn, "scales", "units")) is not None


def test_each_operation_has_a_colour_of_its_own(tmp_path):
    rows = recorded(tmp_path / "r.parquet", lstm, "scales", "gains")
    gains = gains_of(rows, "backward_gain", 0)
    assert len(gains.logs) > 2 and len({gains.colours[kind] for kind in gains.logs}) == len(gains.logs)


@pytest.mark.parametrize("draw", [idle_units, update_ratios])
def test_one_record_alone_is_seen(tmp_path, draw):
    rows = measured(tmp_path / "r.parquet", mlp(6, [12] * 30, 4, "relu"), steps=1)
    axes = draw(rows).axes[0]
    points = axes.collections[1]
    across, _ = np.array(points.get_offsets()).T
    assert (np.diff(across) > 0).all() and sum(axes.get_xlim()) == 0  # side by side, the record in the middle
    assert points.get_sizes().min() >= 20  # square points


def test_the_phase_diagram_holds_the_point_of_the_run(records):
    from bpx.figures import phase_of_run

    figure = phase_of_run(records)
    point = next(line for line in figure.axes[0].lines if line.get_label().startswith("this run"))
    assert point.get_xdata()[0] == records.about["sigma_w"] and point.get_ydata()[0] == 0


def test_every_quantity_and_every_key_is_described_in_the_schema(records, tmp_path):
    text = (ROOT / "docs" / "record.md").read_text(encoding="utf-8")
    described = set(re.findall(r"`([a-z0-9_]+)`", text))
    clipped = measured(
        tmp_path / "clipped.parquet", mlp(6, [12], 4, "relu"), clip_norm=0.1, clip_value=0.1, clip_units=0.1
    )
    blocks = measured(tmp_path / "blocks.parquet", residual_mlp(6, [12] * 3, 4, "relu", normalization="batch"))
    for rows in (records, clipped, blocks):
        assert rows.quantities <= described
        assert set(rows.about) <= described
        assert set(rows.operation) - {""} <= described
    assert {"clip_coefficient", "clipped_entries", "branch_gain"} <= set(clipped.quantity) | set(blocks.quantity)
    names = "step epoch layer operation quantity index value".split()
    assert set(names) <= described


def test_the_schema_describes_nothing_that_is_not_there(records, tmp_path):
    text = (ROOT / "docs" / "record.md").read_text(encoding="utf-8").partition("## Quantities")[2]
    rows = re.findall(r"^\| (`.*?`) \|", text.partition("## Metadata")[0], re.M)
    described = {name for row in rows for name in re.findall(r"`([a-z0-9_]+)`", row)}
    clipped = measured(
        tmp_path / "clipped.parquet", mlp(6, [12], 4, "relu"), clip_norm=0.1, clip_value=0.1, clip_units=0.1
    )
    blocks = measured(tmp_path / "blocks.parquet", residual_mlp(6, [12] * 3, 4, "relu"))
    cells = measured(tmp_path / "cells.parquet", rnn((2, 3), [12], 4))
    tokens = measured(tmp_path / "tokens.parquet", transformer((2, 3), [12], 4))
    held = (set(r.quantity) for r in (records, clipped, blocks, cells, tokens))
    assert described == set().union(*held)
