// Loss landscape: what the attacker climbs beside what decides, from stored logits, with the path that PGD takes.
import { exactlyFlat, floats, nearest, surface } from "./numbers.js";
import { curves, ends, frame, line, mount, panel, percent, readings, short } from "./chart.js";

const UNITS = { "cross-entropy": "nats", margin: "logits", DLR: "no unit" };
const SIZE = 352; // of a map's drawing; slider.css places the canvas where `frame` leaves room for data
const ramp = (hexes) => hexes.map((hex) => [0, 2, 4].map((at) => parseInt(hex.slice(at, at + 2), 16)));
const VIRIDIS = ramp(["440154", "482878", "3e4989", "31688e", "26828e", "1f9e89", "35b779", "6ece58", "b5de2b", "fde725"]);
const DIVERGING = ramp(["2166ac", "4393c3", "92c5de", "d1e5f0", "f7f7f7", "fddbc7", "f4a582", "d6604d", "b2182b"]);

const colour = (stops, share) => {
  const place = Math.min(Math.max(share, 0), 1) * (stops.length - 1);
  const below = Math.min(Math.floor(place), stops.length - 2);
  return stops[below].map((value, i) => value + (place - below) * (stops[below + 1][i] - value));
};

const paint = (canvas, width, height, stops, shareAt) => {
  const image = new ImageData(width, height);
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < width; x++) {
      const ink = colour(stops, shareAt(x, y));
      const at = 4 * (y * width + x);
      for (let c = 0; c < 3; c++) image.data[at + c] = ink[c];
      image.data[at + 3] = 255;
    }
  }
  Object.assign(canvas, { width, height });
  canvas.getContext("2d").putImageData(image, 0, 0);
};

/** Where a surface on a grid crosses a level, as SVG path data: one segment for each triangle that it cuts. */
const contour = (values, level, xs, ys) => {
  const side = xs.length;
  const parts = [];
  const crossing = (a, b) => {
    if (values[a] < level === values[b] < level) return null;
    const share = (level - values[a]) / (values[b] - values[a]);
    const [ax, ay, bx, by] = [xs[Math.floor(a / side)], ys[a % side], xs[Math.floor(b / side)], ys[b % side]];
    return `${(ax + share * (bx - ax)).toFixed(1)} ${(ay + share * (by - ay)).toFixed(1)}`;
  };
  const cut = (a, b, c) => {
    const found = [crossing(a, b), crossing(b, c), crossing(c, a)].filter(Boolean);
    if (found.length === 2) parts.push(`M${found[0]}L${found[1]}`);
  };
  for (let i = 0; i + 1 < side; i++) {
    for (let j = 0; j + 1 < side; j++) {
      const point = i * side + j;
      cut(point, point + side, point + side + 1);
      cut(point, point + 1, point + side + 1);
    }
  }
  return parts.join("");
};

/** Nine levels between the ends of a range. */
const contours = (values, [low, high], places) => (high > low
  ? Array.from({ length: 9 }, (_, i) => contour(values, low + ((i + 1) / 10) * (high - low), ...places)).join("") : "");

const range = (values) => {
  let [low, high] = [Infinity, -Infinity];
  for (const value of values) {
    if (value < low) low = value;
    if (value > high) high = value;
  }
  return [low, high];
};

const map = (part, heading, text) =>
  `<figure class="rl-panel"><figcaption><strong>${heading}</strong> ${text}</figcaption>` +
  `<div class="rl-map"><canvas data-part="${part}-picture" aria-hidden="true"></canvas><svg data-part="${part}" viewBox="0 0 360 ${SIZE}" role="img"></svg></div>` +
  `<p class="rl-bar-of-colours"><span data-part="${part}-low"></span><canvas data-part="${part}-colours" aria-hidden="true"></canvas><span data-part="${part}-high"></span></p></figure>`;

/** Everything about one pair of directions that no temperature changes. */
const prepare = (view) => {
  const logits = floats(view.logits);
  const { coordinates } = view;
  const side = coordinates.length;
  const half = (coordinates[side - 1] - coordinates[0]) / (side - 1) / 2;
  const reach = [coordinates[0] - half, coordinates[side - 1] + half];
  const plot = frame({ x: reach, y: reach, xlabel: view.axes[0], ylabel: view.axes[1], height: SIZE });
  const places = [coordinates.map(plot.px), coordinates.map(plot.py)];
  const margins = surface(logits, view.labels, "margin", 1);
  const edge = contour(margins, 0, ...places);
  const lines = contours(margins, range(margins), places);
  return { logits, side, half, reach, plot, places, margins, lines, single: logits.shape[2] === 1,
    boundary: `<path class="rl-boundary rl-under" d="${edge}"/><path class="rl-boundary" d="${edge}"/>` };
};

export const render = ({ model, el }) => {
  const data = model.get("stored");
  const prepared = {};
  const viewOf = () => {
    const name = model.get("directions");
    prepared[name] = prepared[name] || { ...data.views[name], ...prepare(data.views[name]) };
    return prepared[name];
  };
  /** Entry of a table by temperature; its only one for a loss that no temperature touches. */
  const at = (table) => (table.length > 1 ? table[nearest(data.temperatures, model.get("temperature"))] : table[0]);
  const lossName = (loss) => (loss === "cross-entropy" ? `cross-entropy at T = ${short(model.get("temperature"))}` : loss);
  const outcome = (loss) => {
    const margins = at(data.margins[loss]);
    const step = margins.findIndex((value) => value > 0);
    return step < 0 ? `PGD on it does not fool the model within ${margins.length - 1} steps` : `PGD on it fools the model at step ${step}`;
  };

  const walk = (view, loss) => {
    if (!view.paths) return "";
    const { px, py } = view.plot;
    const clamp = (value) => Math.min(Math.max(value, view.reach[0]), view.reach[1]);
    const points = at(view.paths[loss]).map(([x, y]) => [px(clamp(x)), py(clamp(y))]);
    const fooled = at(data.margins[loss]).findIndex((value) => value > 0);
    const marks = points.map(([x, y], i) => (i === fooled ? `<path class="rl-fooled-step" d="M${x - 7} ${y}h14M${x} ${y - 7}v14"/>` : `<circle class="rl-step" cx="${x}" cy="${y}" r="2"/>`));
    return line(points, "rl-walk rl-under") + line(points, "rl-walk") + marks.join("");
  };

  const drawMap = (part, view, values, [low, high], lines, stops, words, extra, show) => {
    const { side, plot } = view;
    const span = high - low;
    paint(show.part(`${part}-picture`), side, side, stops, (x, y) => (span ? (values[x * side + side - 1 - y] - low) / span : 0.5));
    paint(show.part(`${part}-colours`), 64, 1, stops, (x) => (span ? x / 63 : 0.5));
    const centre = `<circle class="rl-centre" cx="${plot.px(0)}" cy="${plot.py(0)}" r="5"/>`;
    show.draw(part, plot.axes + `<path class="rl-contour" d="${lines}"/>` + extra + centre, words, SIZE);
  };

  const hatching = (view, flat) => {
    const { plot, half, side, coordinates } = view;
    const [width, height] = [plot.px(2 * half) - plot.px(0), plot.py(0) - plot.py(2 * half)];
    const cells = Array.from(flat, (is, k) => (is
      ? `M${plot.px(coordinates[Math.floor(k / side)] - half).toFixed(1)} ${plot.py(coordinates[k % side] + half).toFixed(1)}` +
        `h${width.toFixed(1)}v${height.toFixed(1)}h${(-width).toFixed(1)}z` : ""));
    return '<defs><pattern id="rl-hatch" width="7" height="7" patternUnits="userSpaceOnUse" patternTransform="rotate(45)">' +
      '<path class="rl-hatch-dark" d="M0 0V7"/><path class="rl-hatch-light" d="M2 0V7"/></pattern></defs>' +
      `<path fill="url(#rl-hatch)" d="${cells.join("")}"/>`;
  };

  const stepsPanel = (loss, show) => {
    const margins = at(data.margins[loss]);
    const every = Object.values(data.margins).flat(2);
    const [low, high] = range([...every, 0]);
    const room = 0.06 * (high - low) || 1;
    const plot = frame({ x: [-0.5, margins.length - 0.5], y: [low - room, high + room], xlabel: "PGD step", ylabel: "margin (logits)" });
    const zero = line([[plot.px(-0.5), plot.py(0)], [plot.px(margins.length - 0.5), plot.py(0)]], "rl-reference");
    const [first, last] = ends(...[margins[0], margins[margins.length - 1]]);
    show.draw("steps", plot.axes + zero + curves([margins.map((value, i) => [i, value])], plot), `margin along PGD's path on ${lossName(loss)}, from ${first} to ${last} logits; above 0 the model is fooled`);
    show.put("steps-words", `${outcome(loss)}. The maps show its path as a shadow on two directions: a path that ends short of the white line may have crossed it outside this plane.`);
  };

  let shown;
  const losses = Object.keys(data.margins);
  const controls = [
    { name: "temperature", label: "Temperature T", note: "(no unit, log scale)", values: data.temperatures, text: (t) => `T = ${short(t)}`,
      presets: [[0.001, "T = 0.001"], [1, "as trained, T = 1"], [10000, "T = 10000"]] },
    { kind: "list", name: "loss", label: "The attacker climbs:", options: losses.map((loss) => [loss, loss === "cross-entropy" ? "cross-entropy at T" : `${loss} (no T in it)`]) },
    { kind: "list", name: "directions", label: "Directions:", options: Object.keys(data.views).map((name) => [name, name]) },
  ];
  const body = readings([["span", "range of the loss on the grid"], ["flat", "exactly flat in float32"], ["fooled", "model fooled on"]]) +
    '<div class="rl-panels rl-maps">' +
    map("loss", '<span data-part="loss-heading"></span>', "Hatched: equal to all its neighbours to the last bit, so there is no direction to climb.") +
    map("decides", '<span data-part="decides-heading"></span>', "The margin, largest wrong logit minus the true one; no T in it. Thick white line: where it is 0 and the prediction changes.") +
    panel("steps", "What PGD reaches on this loss.", "The true margin, step by step. Above the dashed line the model is fooled.", '<p data-part="steps-words" class="rl-reading"></p>') + "</div>";

  return mount(model, el, {
    title: data.title,
    controls,
    body,
    draw: (show) => {
      const loss = model.get("loss");
      const view = viewOf();
      const values = surface(view.logits, view.labels, loss, model.get("temperature"));
      const [low, high] = range(values);
      const flat = exactlyFlat(values, view.side);
      const path = walk(view, loss);
      const boundary = view.single ? view.boundary : "";
      const words = `${lossName(loss)}, ${model.get("directions")}, from ${ends(low, high).join(" to ")} ${UNITS[loss]}`;
      drawMap("loss", view, values, [low, high], contours(values, [low, high], view.places), VIRIDIS, words, hatching(view, flat) + boundary + path, show);
      const size = range(view.margins).reduce((largest, value) => Math.max(largest, Math.abs(value)), 0);
      drawMap("decides", view, view.margins, [-size, size], view.lines, DIVERGING, `margin from ${ends(...range(view.margins)).join(" to ")} logits`, view.boundary + path, show);
      show.put("loss-heading", view.paths ? `What the attacker climbs: ${lossName(loss)}.` : `The loss around the weights: ${lossName(loss)}.`);
      show.put("decides-heading", view.single ? "What decides: the margin." : `What decides: the mean margin of ${view.labels.length} examples.`);
      const [lowest, highest] = ends(low, high);
      show.put("loss-low", `${lowest}${high > low ? "" : " everywhere"}`);
      show.put("loss-high", high > low ? `${highest} ${UNITS[loss]}` : UNITS[loss]);
      show.put("decides-low", short(-size));
      show.put("decides-high", `+${short(size)} logits`);
      show.part("steps").closest("figure").hidden = !view.paths;
      if (view.paths) stepsPanel(loss, show);
      shown = { range: `${short(high - low)} ${UNITS[loss]} (${lowest} to ${highest})`, flat: percent(flat.filter(Boolean).length / flat.length),
        fooled: percent(view.margins.filter((value) => value > 0).length / view.margins.length) };
      show.put("span", shown.range);
      show.put("flat", shown.flat);
      show.put("fooled", `${shown.fooled} of the grid`);
    },
    say: () => `${lossName(model.get("loss"))}, ${model.get("directions")}: range ${shown.range}, ${shown.flat} of the grid exactly flat. ` +
      (viewOf().paths ? `${outcome(model.get("loss"))}.` : ""),
  });
};

export default { render };
