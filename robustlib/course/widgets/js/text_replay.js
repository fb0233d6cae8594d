// Attack replay for a sentence: a word search step by step, at two temperatures side by side.
import { escape, mount, short } from "./chart.js";

const BARS = 6;

/** A score in as many digits as tell it from 0 and 1. */
const number = (score) => (score === 0 ? "0 exactly" : score === 1 ? "1 exactly" : Math.abs(score) >= 1e-3 ? score.toPrecision(6).replace(/\.?0+$/, "") : short(score));

const half = (side) =>
  `<figure class="rl-panel"><figcaption><strong data-part="${side}-heading"></strong></figcaption><p class="rl-sentence" data-part="${side}-sentence"></p>` +
  `<p data-part="${side}-step"></p><svg data-part="${side}-scores" viewBox="0 0 360 160" role="img"></svg></figure>`;

export const render = ({ model, el }) => {
  const data = model.get("stored");
  const keys = data.replays.map((replay) => replay.temperature);
  const longest = Math.max(...data.replays.map((replay) => replay.steps.length));

  const state = (temperature) => {
    const replay = data.replays[keys.indexOf(temperature)];
    const place = Math.min(model.get("step"), replay.steps.length - 1);
    const ended = place === replay.steps.length - 1 ? ` (ended: ${replay.outcome})` : "";
    return { ...replay.steps[place], heading: `T_d = ${short(temperature)}, step ${place}${ended}` };
  };

  const drawHalf = (side, show) => {
    const { words, changed, tried, scores, what, heading } = state(model.get(side));
    show.put(`${side}-heading`, heading);
    show.part(`${side}-sentence`).innerHTML = words.map((word, i) =>
      (i === tried ? `<mark class="rl-tried">${escape(word)}</mark>` : changed.includes(i) ? `<mark>[${escape(word)}]</mark>` : escape(word))).join(" ");
    show.put(`${side}-step`, what);
    const best = scores.slice(0, BARS);
    const bars = best.map(([word, score], i) => `<rect class="rl-track" x="4" y="${6 + 27 * i}" width="352" height="22"/>` +
      `<rect class="rl-bar rl-pale" x="4" y="${6 + 27 * i}" width="${(352 * Math.max(0, Math.min(1, score))).toFixed(1)}" height="22"/>` +
      `<text x="9" y="${21 + 27 * i}">${escape(word)}</text><text x="351" y="${21 + 27 * i}" text-anchor="end">${number(score)}</text>`);
    show.draw(`${side}-scores`, bars.join(""), `highest scores: ${best.map(([word, score]) => `${word} ${number(score)}`).join(", ")}`, 10 + 27 * BARS);
  };

  const temperatures = keys.map((t) => [t, `T_d = ${short(t)}`]);
  return mount(model, el, {
    title: data.title,
    controls: [
      { name: "step", label: "Step of the search", values: [...Array(longest).keys()], text: (step) => `step ${step} of ${longest - 1}` },
      { kind: "list", name: "left", label: "Left:", options: temperatures },
      { kind: "list", name: "right", label: "Right:", options: temperatures },
    ],
    body: '<p class="rl-reading">Changed words stand in [brackets], the word being tried is underlined. Bars: score 1 − P(true class) as served, from 0 to 1, the highest ones.</p>' +
      `<div class="rl-panels">${half("left")}${half("right")}</div>`,
    draw: (show) => ["left", "right"].forEach((side) => drawHalf(side, show)),
    say: () => ["left", "right"].map((side) => {
      const { words, changed, scores, what, heading } = state(model.get(side));
      return `${heading}: ${what}. ${words.map((word, i) => (changed.includes(i) ? `[${word}]` : word)).join(" ")} ` +
        `Scores: ${scores.slice(0, BARS).map(([word, score]) => `${word} ${number(score)}`).join(", ")}.`;
    }).join(" "),
  });
};

export default { render };
