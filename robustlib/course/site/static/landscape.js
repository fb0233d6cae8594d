// The landscape page: stored logits on a grid, any loss at any T computed and drawn here.
"use strict";

(() => {
  const { at, put, draw, short, ends, percent, frame, line, roundTicks, escape } = chart;
  const data = chart.stored();
  const logits = numbers.array(data.logits);
  const [side, , nExamples, nClasses] = logits.shape;
  const slider = at("landscape-temperature");
  const half = (data.coordinates[side - 1] - data.coordinates[0]) / (side - 1) / 2;
  const reach = [data.coordinates[0] - half, data.coordinates[side - 1] + half];
  const UNITS = { "cross-entropy": "loss (nats)", margin: "margin (logits)", dlr: "DLR (no unit)" };
  // viridis at equal steps
  const STOPS = ["440154", "482878", "3e4989", "31688e", "26828e", "1f9e89", "35b779", "6ece58", "b5de2b", "fde725"]
    .map((hex) => [0, 2, 4].map((at) => parseInt(hex.slice(at, at + 2), 16)));

  const colour = (share) => {
    const place = Math.min(Math.max(share, 0), 1) * (STOPS.length - 1);
    const below = Math.min(Math.floor(place), STOPS.length - 2);
    return STOPS[below].map((value, i) => value + (place - below) * (STOPS[below + 1][i] - value));
  };

  const paint = (canvas, width, height, shareAt) => {
    const small = document.createElement("canvas");
    [small.width, small.height] = [width, height];
    const image = new ImageData(width, height);
    for (let y = 0; y < height; y++) {
      for (let x = 0; x < width; x++) image.data.set([...colour(shareAt(x, y)), 255], 4 * (y * width + x));
    }
    small.getContext("2d").putImageData(image, 0, 0);
    canvas.getContext("2d").drawImage(small, 0, 0, canvas.width, canvas.height);
  };

  /** Where the surface crosses a level, as SVG path data: one segment for each triangle that it cuts. */
  const contour = (values, level, px, py) => {
    const point = (i, j) => [px(data.coordinates[i]), py(data.coordinates[j]), values[i * side + j]];
    const parts = [];
    const cut = (...corners) => {
      const crossings = [];
      for (const [a, b] of [[0, 1], [1, 2], [2, 0]]) {
        const [first, second] = [corners[a], corners[b]];
        if (first[2] < level === second[2] < level) continue;
        const share = (level - first[2]) / (second[2] - first[2]);
        crossings.push([0, 1].map((k) => (first[k] + share * (second[k] - first[k])).toFixed(1)).join(" "));
      }
      if (crossings.length === 2) parts.push(`M${crossings[0]}L${crossings[1]}`);
    };
    for (let i = 0; i + 1 < side; i++) {
      for (let j = 0; j + 1 < side; j++) {
        cut(point(i, j), point(i + 1, j), point(i + 1, j + 1));
        cut(point(i, j), point(i, j + 1), point(i + 1, j + 1));
      }
    }
    return parts.join("");
  };

  const boundary = numbers.surface(logits, data.labels, "margin", 1);

  const pathAt = (loss, temperature) => {
    const wanted = data.paths.filter((path) => (path.temperature === null) === (loss !== "cross-entropy"));
    const distance = (path) => (path.temperature === null ? 0 : Math.abs(Math.log(path.temperature / temperature)));
    return wanted.reduce((best, path) => (best && distance(best) <= distance(path) ? best : path), null);
  };

  const surfacePanel = (values, low, high, hatched, loss, temperature) => {
    const span = high - low;
    paint(at("landscape-surface"), side, side, (x, y) => (span ? (values[x * side + side - 1 - y] - low) / span : 0.5));
    const ticks = roundTicks(data.coordinates[0], data.coordinates[side - 1]);
    const { px, py, axes } = frame({ x: reach, y: reach, xlabel: data.axes[0], ylabel: data.axes[1], xticks: ticks, yticks: ticks,
      height: 352 });
    const levels = span ? Array.from({ length: 9 }, (_, i) => low + ((i + 1) / 10) * span) : [];
    const lines = `<path class="contour" d="${levels.map((level) => contour(values, level, px, py)).join("")}"/>`;
    const cells = hatched.map((is, k) => (is
      ? `M${px(data.coordinates[Math.floor(k / side)] - half)} ${py(data.coordinates[k % side] + half)}` +
        `h${px(2 * half) - px(0)}v${py(0) - py(2 * half)}h${px(0) - px(2 * half)}z` : "")).join("");
    const edgePath = contour(boundary, 0, px, py);
    const edge = nExamples === 1 ? `<path class="boundary under" d="${edgePath}"/><path class="boundary" d="${edgePath}"/>` : "";
    const path = at("show-path").checked ? pathAt(loss, temperature) : null;
    const inside = ([x, y]) => [Math.min(Math.max(px(x), px(reach[0])), px(reach[1])), Math.min(Math.max(py(y), py(reach[1])), py(reach[0]))];
    const walk = path ? line(path.points.map(inside), "walk under") + line(path.points.map(inside), "walk") +
      path.points.map(inside).map(([x, y]) => `<circle class="step" cx="${x}" cy="${y}" r="2"/>`).join("") : "";
    const centre = `<circle class="centre" cx="${px(0)}" cy="${py(0)}" r="5"/>`;
    const hatching = '<defs><pattern id="hatch" width="7" height="7" patternUnits="userSpaceOnUse" patternTransform="rotate(45)">' +
      '<path class="hatch-dark" d="M0 0V7"/><path class="hatch-light" d="M2 0V7"/></pattern></defs>';
    draw("landscape-overlay", hatching + axes + lines + `<path fill="url(#hatch)" d="${cells}"/>` + edge + walk + centre,
      `surface of the ${loss}${loss === "cross-entropy" ? ` at T = ${short(temperature)}` : ""}, from ${short(low)} to ${short(high)}`, 352);
    if (data.paths.length) {
      put("path-note", !path ? "no path drawn"
        : path.temperature === null ? "path of PGD on the margin" : `path of PGD at T = ${short(path.temperature)}, the nearest that was recorded`);
    }
  };

  const linePanel = (values, low, high, loss) => {
    const middle = data.coordinates.reduce((best, value, i) => (Math.abs(value) < Math.abs(data.coordinates[best]) ? i : best), 0);
    const along = data.coordinates.map((_, i) => values[i * side + middle]);
    const room = (high - low) * 0.06 || Math.abs(high) * 0.1 || 1;
    const y = [low - room, high + room];
    const { px, py, axes } = frame({ x: reach, y, xlabel: data.axes[0], ylabel: UNITS[loss], xticks: roundTicks(...reach), yticks: roundTicks(...y),
      left: 64 });
    const fooled = data.coordinates.map((_, i) => boundary[i * side + middle] > 0);
    const shade = nExamples === 1 ? data.coordinates.map((value, i) => (fooled[i]
      ? `<rect class="fooled" x="${px(value - half)}" width="${px(half) - px(-half)}" y="${py(y[1])}" height="${py(y[0]) - py(y[1])}"/>` : "")) : [];
    draw("landscape-line", shade.join("") + axes + line(along.map((value, i) => [px(data.coordinates[i]), py(value)]), "series0 curve"),
      `${escape(UNITS[loss])} along ${escape(data.axes[0])}, from ${short(Math.min(...along))} to ${short(Math.max(...along))}`);
  };

  let settled;
  const redraw = (temperature) => {
    const loss = document.querySelector('input[name="loss"]:checked').value;
    const values = numbers.surface(logits, data.labels, loss, temperature);
    const low = values.reduce((a, b) => Math.min(a, b));
    const high = values.reduce((a, b) => Math.max(a, b));
    const hatched = numbers.still(values, side);
    surfacePanel(values, low, high, hatched, loss, temperature);
    linePanel(values, low, high, loss);
    paint(at("landscape-colourbar"), 64, 1, (x) => (low === high ? 0.5 : x / 63));
    const [lowest, highest] = ends(low, high);
    put("colourbar-low", lowest);
    put("colourbar-high", low === high ? "" : highest);
    put("colourbar-unit", UNITS[loss]);
    put("landscape-range", `${short(high - low)} (${lowest} to ${highest})`);
    const flat = hatched.filter(Boolean).length / hatched.length;
    put("landscape-flat", percent(flat));
    clearTimeout(settled);
    settled = setTimeout(() => put("status", `${loss} at T = ${short(temperature)}: range ${short(high - low)}, ` +
      `${percent(flat)} of the grid exactly flat.`), 600);
  };

  if (nClasses < 3) at("loss-dlr").disabled = true;
  at("path-control").hidden = !data.paths.length;
  at("boundary-note").hidden = nExamples !== 1;
  const soon = chart.onTemperature(slider, redraw);
  for (const control of document.querySelectorAll('input[name="loss"], #show-path')) control.addEventListener("input", soon);
})();
