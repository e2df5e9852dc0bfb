"use strict";
// Charts of a report. Every chart is a list of groups (a run, or runs from several seeds), each with its own colour.
const LAYOUT = {
  margin: { l: 65, r: 15, t: 40, b: 100 }, hovermode: "closest", font: { size: 12 },
  legend: { orientation: "h", y: -0.3 }, plot_bgcolor: "#fff",
};
const CONFIG = { responsive: true, displaylogo: false, showSendToCloud: false };
const axis = (title, more) => ({ title: { text: title }, gridcolor: "#e8e8e8", zeroline: false, exponentformat: "power", ...more });
const unique = (list) => [...new Set(list)];

function control(parent, name, element) {
  const label = document.createElement("label");
  label.append(name, element);
  element.setAttribute("aria-label", name);
  parent.append(label);
  return element;
}

function choice(parent, name, options, chosen) {
  const select = document.createElement("select");
  for (const [value, text] of options) select.add(new Option(text, value, false, value === chosen));
  return control(parent, name, select);
}

function input(parent, name, type, properties) {
  return control(parent, name, Object.assign(document.createElement("input"), { type, ...properties }));
}

function frame(root, plots) {
  const controls = root.appendChild(document.createElement("div"));
  const area = root.appendChild(document.createElement("div"));
  controls.className = "controls";
  area.className = "plots";
  return [controls, ...Array.from({ length: plots }, () => area.appendChild(document.createElement("div")))];
}

function ranges(values) {
  const good = values.filter((v) => v !== null);
  return good.length > 0 && Math.min(...good) > 0 && Math.max(...good) > 30 * Math.min(...good);
}

function metrics(root, data) {
  const [controls, plot] = frame(root, 1);
  const names = unique(data.groups.flatMap((group) => Object.keys(group.metrics)));
  const families = unique(names.map((name) => name.split("/")[0]));
  const family = choice(controls, "metric", families.map((name) => [name, name]), families[0]);
  const log = input(controls, "log y", "checkbox");
  const logSteps = input(controls, "log steps", "checkbox");
  const dashes = ["solid", "dash", "dot", "dashdot"];
  const draw = () => {
    const shown = names.filter((name) => name.split("/")[0] === family.value);
    const traces = data.groups.flatMap((group) => shown.filter((name) => name in group.metrics).map((name) => ({
      x: group.metrics[name].x.map((step) => step + (logSteps.checked ? 1 : 0)), y: group.metrics[name].y,
      name: data.groups.length > 1 ? `${group.name}: ${name}` : name, mode: "lines+markers", marker: { size: 4 },
      line: {
        color: data.groups.length > 1 ? group.colour : data.colours[shown.indexOf(name) % data.colours.length],
        dash: data.groups.length > 1 ? dashes[shown.indexOf(name) % 4] : "solid",
      },
    })));
    Plotly.react(plot, traces, {
      ...LAYOUT, xaxis: axis(logSteps.checked ? "optimizer step + 1" : "optimizer step", { type: logSteps.checked ? "log" : "linear" }),
      yaxis: axis(family.value, { type: log.checked ? "log" : "linear" }),
    }, CONFIG);
  };
  const reset = () => {
    log.checked = ranges(data.groups.flatMap((group) => names.filter((name) => name.split("/")[0] === family.value && name in group.metrics)
      .flatMap((name) => group.metrics[name].y)));
    draw();
  };
  family.onchange = reset;
  log.onchange = logSteps.onchange = draw;
  reset();
}

function layers(root, data) {
  const [controls, byLayer, byStep] = frame(root, 2);
  const names = unique(data.groups.flatMap((group) => Object.keys(group.quantities)));
  const quantity = choice(controls, "quantity", names.map((name) => [name, name]), "delta_l2");
  const steps = unique(data.groups.flatMap((group) => group.steps)).sort((a, b) => a - b);
  const step = input(controls, "step", "range", { min: 0, max: steps.length - 1, value: 0 });
  const said = controls.appendChild(document.createElement("span"));
  const single = data.groups.length === 1;
  const count = Math.max(...data.groups.flatMap((group) => Object.values(group.quantities).map((rows) => rows.length)));
  const options = Array.from({ length: count }, (_, i) => [String(i), `layer ${i + 1}`]);
  const layer = choice(controls, "layer", single ? [["all", "all"], ...options] : options, single ? "all" : "0");
  const log = input(controls, "log y", "checkbox");
  const at = (group) => {  // the last of its steps that is not later than the chosen one
    const earlier = group.steps.filter((s) => s <= steps[step.value]);
    return Math.max(earlier.length - 1, 0);
  };
  const draw = () => {
    const type = log.checked ? "log" : "linear";
    said.textContent = steps[step.value] === 0 ? "initialization" : `step ${steps[step.value].toLocaleString("en")}`;
    const profiles = [];
    for (const group of data.groups) {
      const theory = (group.theory || {})[quantity.value];
      if (theory) {
        const x = theory.line.map((_, i) => i + 1), quiet = { mode: "lines", line: { width: 0 }, hoverinfo: "skip", showlegend: false };
        if (theory.low && single) {
          profiles.push({ x, y: theory.low, ...quiet });
          profiles.push({ x, y: theory.high, ...quiet, fill: "tonexty", fillcolor: "rgba(100,100,100,.25)" });
        }
        profiles.push({ x, y: theory.line, name: single ? "theory, at initialization" : `theory: ${group.name}`, mode: "lines", line: { color: single ? "#222" : group.colour, dash: "dash", width: 1.3 } });
      }
      const rows = group.quantities[quantity.value];
      if (rows) profiles.push({ x: rows.map((_, i) => i + 1), y: rows.map((row) => row[at(group)]), name: group.name, mode: "lines+markers", line: { color: group.colour } });
    }
    Plotly.react(byLayer, profiles, { ...LAYOUT, xaxis: axis("layer, from the input"), yaxis: axis(quantity.value, { type, autorange: true }), title: { text: "by layer", font: { size: 13 }, x: 0.02 } }, CONFIG);
    const lines = data.groups.flatMap((group) => (group.quantities[quantity.value] || [])
      .map((row, i) => ({ row, i })).filter(({ i }) => layer.value === "all" || String(i) === layer.value)
      .map(({ row, i }) => ({
        x: group.steps.map((s) => s + 1), y: row, mode: "lines+markers", marker: { size: 4 },
        name: single ? `layer ${i + 1}` : group.name, line: { width: 1.3, color: single ? data.shades[i % data.shades.length] : group.colour },
      })));
    Plotly.react(byStep, lines, { ...LAYOUT, xaxis: axis("optimizer step + 1", { type: "log" }), yaxis: axis(quantity.value, { type, autorange: true }), title: { text: single ? "over the steps; click a layer in the legend" : `over the steps, layer ${Number(layer.value) + 1}`, font: { size: 13 }, x: 0.02 } }, CONFIG);
  };
  const reset = () => {
    log.checked = ranges(data.groups.flatMap((group) => (group.quantities[quantity.value] || []).flat()));
    draw();
  };
  quantity.onchange = reset;
  step.oninput = layer.onchange = log.onchange = draw;
  reset();
}

function trials(root, data) {
  const [controls, map] = frame(root, 1);
  const [, lines] = frame(root, 1);
  const numeric = data.keys.concat(data.metrics).map((name) => [name, name]);
  const x = choice(controls, "x", numeric, data.keys[0]), y = choice(controls, "y", numeric, data.keys[1] || data.metrics[0]);
  const colour = choice(controls, "colour", data.metrics.map((name) => [name, name]), data.metrics[0]);
  const logX = input(controls, "log x", "checkbox"), logY = input(controls, "log y", "checkbox");
  const outcomes = unique(data.rows.map((row) => row.outcome));
  const symbols = { finished: "circle", pruned: "square", diverged: "x" };
  const draw = () => {
    const values = data.rows.map((row) => row[colour.value]).filter((v) => typeof v === "number");
    const traces = outcomes.map((outcome, i) => {
      const rows = data.rows.filter((row) => row.outcome === outcome);
      return {
        x: rows.map((row) => row[x.value]), y: rows.map((row) => row[y.value]), mode: "markers", name: outcome,
        text: rows.map((row) => ["trial", ...data.keys, ...data.metrics].filter((k) => row[k] !== null && row[k] !== undefined).map((k) => `${k} ${row[k]}`).join("<br>")),
        hoverinfo: "text+name",
        marker: {
          symbol: symbols[outcome] || "diamond", size: 10, line: { width: 1, color: "#333" }, color: rows.map((row) => row[colour.value]),
          colorscale: "Viridis", cmin: Math.min(...values), cmax: Math.max(...values), showscale: i === 0, colorbar: { title: { text: colour.value } },
        },
      };
    });
    Plotly.react(map, traces, { ...LAYOUT, xaxis: axis(x.value, { type: logX.checked ? "log" : undefined }), yaxis: axis(y.value, { type: logY.checked ? "log" : undefined }) }, CONFIG);
  };
  const reset = () => {
    logX.checked = ranges(data.rows.map((row) => row[x.value]));
    logY.checked = ranges(data.rows.map((row) => row[y.value]));
    draw();
  };
  x.onchange = y.onchange = reset;
  colour.onchange = logX.onchange = logY.onchange = draw;
  reset();
  const whole = data.rows.filter((row) => row[data.metrics[0]] !== null && row[data.metrics[0]] !== undefined);
  const dimension = (key) => {
    const values = whole.map((row) => row[key]);
    if (values.every((v) => typeof v === "number")) {
      return ranges(values) ? { label: `log10 ${key}`, values: values.map(Math.log10) } : { label: key, values };
    }
    const words = unique(values);
    return { label: key, values: values.map((v) => words.indexOf(v)), tickvals: words.map((_, i) => i), ticktext: words };
  };
  Plotly.react(lines, [{
    type: "parcoords", dimensions: [...data.keys, data.metrics[0]].map(dimension),
    line: { color: whole.map((row) => row[data.metrics[0]]), colorscale: "Viridis", showscale: true },
  }], { ...LAYOUT, margin: { l: 70, r: 40, t: 60, b: 30 } }, CONFIG);
}

JSON.parse(document.getElementById("data").textContent).forEach((data, i) => {
  ({ metrics, layers, trials })[data.kind](document.getElementById(`chart-${i}`), data);
});
