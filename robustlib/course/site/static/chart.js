// Axes, numbers and sliders that both slider pages share. Colours are classes: the style sheet knows light from dark.
"use strict";

const chart = (() => {
  const escape = (text) =>
    String(text).replace(/[&<>"]/g, (sign) => ({ "&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;" })[sign]);

  /** A number as text in three significant digits, 1e-5 as 10 to a power. */
  const short = (value) => {
    if (value === 0) return "0";
    if (!Number.isFinite(value)) return value > 0 ? "infinite" : "not a number";
    const size = Math.abs(value);
    if (size >= 1e-3 && size < 1e5) return String(Number(value.toPrecision(3)));
    return value.toExponential(1).replace(".0e", "e").replace("e+", "e");
  };

  /** Both ends of a range in as many digits as it takes to tell them apart. */
  const ends = (low, high) => {
    const apart = high > low ? Math.log10(Math.max(Math.abs(low), Math.abs(high)) / (high - low)) : 0;
    return [low, high].map((value) => (apart < 1 ? short(value) : String(Number(value.toPrecision(Math.min(Math.ceil(apart) + 3, 9))))));
  };

  const tickText = (tick) => {
    const size = Math.abs(tick);
    return size === 0 || (size >= 1e-3 && size < 1e5) ? String(tick) : short(tick);
  };

  const percent = (share) => (100 * share).toFixed(1) + " %";

  /** Maps data to a drawing of 360 x `height`; `axes` is its frame, ticks and labels as SVG. */
  const frame = ({ x, y, xlabel, ylabel, xticks, yticks, height = 270, left = 46, bottom = 42, top = 8, right = 10, power = false }) => {
    const px = (value) => left + ((value - x[0]) / (x[1] - x[0])) * (360 - left - right);
    const py = (value) => height - bottom - ((value - y[0]) / (y[1] - y[0])) * (height - bottom - top);
    const power10 = (tick) => `10<tspan class="power" dy="-5">${tick < 0 ? "−" : ""}${Math.abs(tick)}</tspan>`;
    const ticks = [
      ...xticks.map((tick) => `<line class="grid" x1="${px(tick)}" x2="${px(tick)}" y1="${top}" y2="${height - bottom}"/>` +
        `<text x="${px(tick)}" y="${height - bottom + 15}" text-anchor="middle">${power ? power10(tick) : tickText(tick)}</text>`),
      ...yticks.map((tick) => `<line class="grid" x1="${left}" x2="${360 - right}" y1="${py(tick)}" y2="${py(tick)}"/>` +
        `<text x="${left - 5}" y="${py(tick) + 4}" text-anchor="end">${tickText(tick)}</text>`),
    ];
    const middle = (height - bottom + top) / 2;
    const axes = ticks.join("") +
      `<path class="axis" d="M${left} ${top}V${height - bottom}H${360 - right}"/>` +
      `<text x="${(left + 360 - right) / 2}" y="${height - 6}" text-anchor="middle">${escape(xlabel)}</text>` +
      `<text transform="translate(12 ${middle}) rotate(-90)" text-anchor="middle">${escape(ylabel)}</text>`;
    return { px, py, axes };
  };

  /** About `count` round numbers within [low, high]. */
  const roundTicks = (low, high, count = 5) => {
    const raw = (high - low) / count;
    const unit = 10 ** Math.floor(Math.log10(raw));
    const step = [1, 2, 5, 10].map((factor) => factor * unit).find((size) => size >= raw);
    const ticks = [];
    for (let tick = Math.ceil(low / step); tick * step <= high; tick++) ticks.push(Number((tick * step).toPrecision(12)));
    return ticks;
  };

  const line = (points, kind) => `<path class="${kind}" d="M${points.map(([x, y]) => `${x.toFixed(1)} ${y.toFixed(1)}`).join("L")}"/>`;

  const at = (id) => document.getElementById(id);

  const put = (id, text) => { at(id).textContent = text; };

  /** Draw into an <svg>, and say in its label what is there. */
  const draw = (id, content, label, height = 270) => {
    at(id).setAttribute("viewBox", `0 0 360 ${height}`);
    at(id).setAttribute("aria-label", label);
    at(id).innerHTML = content;
  };

  /** Calls `redraw` when the slider, a preset or another control moves, at most once a frame, with T. */
  const onTemperature = (slider, redraw) => {
    let waiting = false;
    const now = () => {
      waiting = false;
      const temperature = 10 ** Number(slider.value);
      const shown = `T = ${short(temperature)}`;
      slider.setAttribute("aria-valuetext", shown);
      put("temperature-value", shown);
      redraw(temperature);
    };
    const soon = () => {
      if (!waiting) requestAnimationFrame(now);
      waiting = true;
    };
    slider.addEventListener("input", soon);
    for (const button of document.querySelectorAll("button[data-exponent]")) {
      button.addEventListener("click", () => {
        slider.value = button.dataset.exponent;
        soon();
      });
    }
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", soon);
    now();
    return soon;
  };

  const stored = () => JSON.parse(at("stored").textContent);

  return { escape, short, ends, percent, frame, roundTicks, line, at, put, draw, onTemperature, stored };
})();
