// Axes, numbers as text, and the controls that every slider shares. Colours are classes: slider.css knows light from dark.

export const escape = (text) =>
  String(text).replace(/[&<>"]/g, (sign) => ({ "&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;" })[sign]);

/** Text as HTML, or as SVG, with the letters below the line that T_d and T_a have in print. */
const html = (text) => escape(text).replace(/\bT_([da])\b/g, "T<sub>$1</sub>");
const svg = (text) => escape(text).replace(/\bT_([da])\b/g, 'T<tspan class="rl-sub" dy="3">$1</tspan><tspan dy="-3">\u200b</tspan>');

/** A number as text in three significant digits, 1e-5 as 10 to a power. */
export const short = (value) => {
  if (value === 0) return "0";
  if (!Number.isFinite(value)) return value > 0 ? "infinite" : "not a number";
  const size = Math.abs(value);
  if (size >= 1e-3 && size < 1e5) return String(Number(value.toPrecision(3)));
  return value.toExponential(1).replace(".0e", "e").replace("e+", "e");
};

/** Both ends of a range in as many digits as it takes to tell them apart. */
export const ends = (low, high) => {
  const apart = high > low ? Math.log10(Math.max(Math.abs(low), Math.abs(high)) / (high - low)) : 0;
  return [low, high].map((value) => (apart < 1 ? short(value) : String(Number(value.toPrecision(Math.min(Math.ceil(apart) + 3, 9))))));
};

export const percent = (share) => (100 * share).toFixed(1) + " %";

/** About `count` round numbers within [low, high]. */
const roundTicks = (low, high, count = 5) => {
  const raw = (high - low) / count;
  const unit = 10 ** Math.floor(Math.log10(raw));
  const step = [1, 2, 5, 10].map((factor) => factor * unit).find((size) => size >= raw * 0.95);
  const ticks = [];
  for (let tick = Math.ceil(low / step - 1e-9); tick * step <= high + step * 1e-9; tick++) ticks.push(Number((tick * step).toPrecision(12)));
  return ticks;
};

/** Powers of ten within [low, high], at most nine; between powers round numbers. */
const logTicks = (low, high) => {
  const [first, last] = [Math.ceil(Math.log10(low) - 1e-9), Math.floor(Math.log10(high) + 1e-9)];
  if (last <= first) return roundTicks(low, high, 4);
  const step = Math.ceil((last - first) / 8);
  return Array.from({ length: Math.floor((last - first) / step) + 1 }, (_, i) => 10 ** (first + i * step));
};

const tickText = (tick, log) => {
  const exponent = Math.round(Math.log10(tick));
  if (!log || Math.abs(exponent) < 2 || Math.abs(10 ** exponent / tick - 1) > 1e-9) return escape(short(tick));
  return `10<tspan class="rl-power" dy="-5">${exponent < 0 ? "−" : ""}${Math.abs(exponent)}</tspan>`;
};

/** Maps data to a drawing of 360 x `height`; `axes` is its frame, ticks and labels as SVG. */
export const frame = ({ x, y, xlabel, ylabel, height = 270, left = 50, bottom = 42, top = 10, right = 12, xlog = false, ylog = false }) => {
  const scale = (range, log, start, length) => {
    const of = log ? Math.log10 : (value) => value;
    const [low, high] = range.map(of);
    return (value) => start + ((of(value) - low) / (high - low || 1)) * length;
  };
  const px = scale(x, xlog, left, 360 - left - right);
  const py = scale(y, ylog, height - bottom, top + bottom - height);
  const ticks = [
    ...(xlog ? logTicks : roundTicks)(...x).map((tick) => `<line class="rl-grid" x1="${px(tick)}" x2="${px(tick)}" y1="${top}" y2="${height - bottom}"/>` +
      `<text x="${px(tick)}" y="${height - bottom + 15}" text-anchor="middle">${tickText(tick, xlog)}</text>`),
    ...(ylog ? logTicks : roundTicks)(...y).map((tick) => `<line class="rl-grid" x1="${left}" x2="${360 - right}" y1="${py(tick)}" y2="${py(tick)}"/>` +
      `<text x="${left - 5}" y="${py(tick) + 4}" text-anchor="end">${tickText(tick, ylog)}</text>`),
  ];
  const axes = ticks.join("") +
    `<path class="rl-axis" d="M${left} ${top}V${height - bottom}H${360 - right}"/>` +
    `<text x="${(left + 360 - right) / 2}" y="${height - 6}" text-anchor="middle">${svg(xlabel)}</text>` +
    `<text transform="translate(12 ${(height - bottom + top) / 2}) rotate(-90)" text-anchor="middle">${svg(ylabel)}</text>`;
  return { px, py, axes };
};

export const line = (points, kind) =>
  points.length ? `<path class="${kind}" d="M${points.map(([x, y]) => `${x.toFixed(1)} ${y.toFixed(1)}`).join("L")}"/>` : "";

/** Curves [x, mean, low, high] in a frame, one colour, dash and marker for each; `rings`: points to be marked. */
export const curves = (series, { px, py }, rings = []) =>
  series.map((points, i) => {
    const band = points.filter((point) => point.length > 3 && point[2] !== null && point[3] !== null);
    const area = [...band.map(([x, , low]) => [px(x), py(low)]), ...band.map(([x, , , high]) => [px(x), py(high)]).reverse()];
    return line(area, `rl-series${i % 6} rl-band`) + line(points.map(([x, y]) => [px(x), py(y)]), `rl-series${i % 6} rl-curve`) +
      points.map(([x, y]) => `<circle class="rl-series${i % 6} rl-point" cx="${px(x)}" cy="${py(y)}" r="2.5"/>`).join("");
  }).join("") + rings.map(([x, y]) => `<circle class="rl-ring" cx="${px(x)}" cy="${py(y)}" r="8"/>`).join("");

/** The names of `curves`, as a list below the drawing. */
export const key = (names) =>
  `<ul class="rl-key">${names.map((name, i) => `<li><span class="rl-swatch rl-series${i % 6}"></span> ${escape(name)}</li>`).join("")}</ul>`;

/** Numbers that stand above the drawings: pairs (part, words). */
export const readings = (pairs) =>
  `<div class="rl-readings">${pairs.map(([part, words]) => `<div><span>${words}</span> <strong data-part="${part}"></strong></div>`).join("")}</div>`;

/** A figure: heading, a sentence, a drawing named `part`, and what stands below. */
export const panel = (part, heading, text = "", below = "") =>
  `<figure class="rl-panel"><figcaption><strong>${heading}</strong> ${text}</figcaption>` +
  `<svg data-part="${part}" viewBox="0 0 360 270" role="img"></svg>${below}</figure>`;

/** Bars for the probabilities of one example, into the drawing `part`; many classes: only the likeliest. */
export const probabilityBars = (show, part, probs, names, label, words) => {
  const order = probs.map((_, i) => i);
  const shown = order.length <= 12 ? order : order.sort((a, b) => probs[b] - probs[a]).slice(0, 12);
  const step = Math.min(30, 240 / shown.length);
  const bars = shown.map((i, place) => {
    const y = 6 + place * step;
    const name = names[i].length > 16 ? names[i].slice(0, 15) + "…" : names[i];
    return `<text x="104" y="${y + step * 0.62}" text-anchor="end">${escape(name)}</text>` +
      `<rect class="rl-bar ${i === label ? "rl-true" : "rl-model"}" x="110" y="${y}" height="${step * 0.75}" width="${(190 * probs[i]).toFixed(2)}"/>` +
      `<text x="${(114 + 190 * probs[i]).toFixed(1)}" y="${y + step * 0.62}">${probs[i] >= 0.0005 ? probs[i].toFixed(3) : short(probs[i])}</text>`;
  });
  show.draw(part, bars.join(""), words, 12 + step * shown.length);
};

export const TRUE_KEY = '<p class="rl-key"><span class="rl-swatch rl-true"></span> true class <span class="rl-swatch rl-model"></span> other classes</p>';

/** Bytes (channels, height, width) into a canvas, at its own size; the style sheet enlarges it. */
export const picture = (canvas, values, [channels, height, width]) => {
  Object.assign(canvas, { width, height });
  const image = new ImageData(width, height);
  const size = width * height;
  for (let i = 0; i < size; i++) {
    for (let c = 0; c < 3; c++) image.data[4 * i + c] = values[(channels === 1 ? 0 : c) * size + i];
    image.data[4 * i + 3] = 255;
  }
  canvas.getContext("2d").putImageData(image, 0, 0);
};

/** Signed shares in [-1, 1], (height, width), into a canvas: purple below 0, white, orange above. */
export const signedPicture = (canvas, values, [height, width]) => {
  const planes = new Uint8ClampedArray(3 * height * width);
  const [below, above] = [[84, 39, 136], [179, 88, 6]];
  values.forEach((value, i) => {
    const ink = value < 0 ? below : above;
    for (let c = 0; c < 3; c++) planes[c * values.length + i] = 247 + Math.min(Math.abs(value), 1) * (ink[c] - 247);
  });
  picture(canvas, planes, [3, height, width]);
};

/** Temperatures from 10 ** low to 10 ** high in equal steps of log T, to four digits. */
export const logSteps = (low, high, perDecade = 20) =>
  Array.from({ length: Math.round((high - low) * perDecade) + 1 }, (_, i) => Number((10 ** (low + i / perDecade)).toPrecision(4)));

const closest = (values, value) =>
  values.reduce((best, other, i) => {
    const distance = (number) => (values[0] > 0 && value > 0 ? Math.abs(Math.log(number / value)) : Math.abs(number - value));
    return distance(other) < distance(values[best]) ? i : best;
  }, 0);

let count = 0;

const controlHtml = (control, id) => {
  if (control.kind === "list") {
    const options = control.options.map(([, words], i) => `<option value="${i}">${escape(words)}</option>`);
    return `<div class="rl-list"><label for="${id}">${control.label}</label> <select id="${id}">${options.join("")}</select></div>`;
  }
  const within = ([value]) => value >= control.values[0] && value <= control.values[control.values.length - 1];
  const presets = (control.presets || []).filter(within).map(([value, words]) => `<button type="button" data-value="${value}">${escape(words)}</button>`);
  return `<div class="rl-control"><label for="${id}">${control.label} <small>${control.note || ""}</small></label>` +
    `<output for="${id}"></output><input type="range" id="${id}" min="0" max="${control.values.length - 1}" step="1">` +
    (presets.length ? `<div class="rl-presets" role="group" aria-label="values to try">${presets.join("")}</div>` : "") + "</div>";
};

/** One control: `refresh` shows the model's value in it. */
const wire = (model, element, control) => {
  const choose = (value) => {
    model.set(control.name, value);
    model.save_changes();
  };
  const input = element.querySelector("input, select");
  if (control.kind === "list") {
    input.addEventListener("change", () => choose(control.options[Number(input.value)][0]));
    return () => { input.value = String(control.options.findIndex(([value]) => value === model.get(control.name))); };
  }
  const text = control.text || ((value) => short(value));
  input.addEventListener("input", () => choose(control.values[Number(input.value)]));
  for (const button of element.querySelectorAll("button")) {
    button.addEventListener("click", () => choose(Number(button.dataset.value)));
  }
  return () => {
    const value = model.get(control.name);
    input.value = String(closest(control.values, value));
    input.setAttribute("aria-valuetext", text(value));
    element.querySelector("output").innerHTML = html(text(value));
  };
};

/** Build a slider in `el` and draw again, at most once a frame, whenever a value of the model changes.
 *
 *  controls: {kind: "range" | "list", name of the model's value, label, values | options, presets, text};
 *  body: HTML with parts; `draw(show)` fills them; `say()`: what is shown, in words, for a reader who cannot see it. */
export const mount = (model, el, { title, controls, body, draw, say, watch = [] }) => {
  const root = document.createElement("section");
  root.className = "rl";
  root.setAttribute("aria-label", title);
  const ids = controls.map(() => `rl${Date.now().toString(36)}${count++}`);
  root.innerHTML = `<p class="rl-title">${escape(title)}</p><div class="rl-controls">` +
    `${controls.map((control, i) => controlHtml(control, ids[i])).join("")}</div>${body}<p class="rl-hidden" role="status"></p>`;
  el.replaceChildren(root);
  // JupyterLab would take arrow keys and letters for its own; before it looks, tell it not to (but leave it Ctrl+S)
  const ours = (event) => {
    const plain = !(event.ctrlKey || event.metaKey || event.altKey);
    if (root.contains(event.target)) event.target.toggleAttribute("data-lm-suppress-shortcuts", plain);
  };
  addEventListener("keydown", ours, true);
  const refreshes = controls.map((control, i) => wire(model, root.querySelector(`#${ids[i]}`).closest("div"), control));
  const show = {
    part: (name) => root.querySelector(`[data-part="${name}"]`),
    put: (name, text) => { show.part(name).innerHTML = html(text); },
    draw: (name, content, label, height = 270) => {
      const drawing = show.part(name);
      drawing.setAttribute("viewBox", `0 0 360 ${height}`);
      drawing.setAttribute("aria-label", label);
      drawing.innerHTML = content;
    },
  };
  let [waiting, settled] = [false, undefined];
  const now = () => {
    waiting = false;
    refreshes.forEach((refresh) => refresh());
    draw(show);
    clearTimeout(settled); // a screen reader hears where the slider came to rest, not every step on the way
    settled = setTimeout(() => { root.lastElementChild.textContent = say(); }, 600);
  };
  const soon = () => {
    if (!waiting) requestAnimationFrame(now);
    waiting = true;
  };
  const events = [...controls.map((control) => control.name), ...watch].map((name) => `change:${name}`);
  for (const event of events) model.on(event, soon);
  now();
  return () => {
    clearTimeout(settled);
    removeEventListener("keydown", ours, true);
    for (const event of events) model.off(event, soon);
  };
};
