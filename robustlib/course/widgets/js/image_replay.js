// Attack replay for an image: PGD step by step, at two temperatures next to each other.
import { argmax, bytes, floats, softmax } from "./numbers.js";
import { mount, picture, probabilityBars, short, signedPicture, TRUE_KEY } from "./chart.js";

const half = (side) =>
  `<figure class="rl-panel"><figcaption><strong data-part="${side}-heading"></strong></figcaption><div class="rl-pair">` +
  ["image", "change", "gradient"].map((what) => `<figure><canvas data-part="${side}-${what}" role="img" aria-label="${what}"></canvas><figcaption>${what}, <span data-part="${side}-${what}-words"></span></figcaption></figure>`).join("") +
  `</div><svg data-part="${side}-softmax" viewBox="0 0 360 270" role="img"></svg>${TRUE_KEY}</figure>`;

export const render = ({ model, el }) => {
  const data = model.get("stored");
  const [path, gradients, logits] = [bytes(data.path), bytes(data.gradients), floats(data.logits)];
  const [, nSteps, channels, height, width] = path.shape;
  const [size, nClasses] = [channels * height * width, data.class_names.length];

  const state = (temperature) => {
    const index = data.temperatures.indexOf(temperature) * nSteps + model.get("step");
    const values = logits.values.subarray(index * nClasses, (index + 1) * nClasses);
    const top = argmax(values);
    return { index, temperature, probs: softmax(values, temperature), top, fooled: top !== data.label,
      change: data.changes[index], gradient: data.largest[index] };
  };
  const words = ({ temperature, top, fooled }) => `T_d = ${short(temperature)}: ${data.class_names[top]}, ${fooled ? "FOOLED" : "still right"}`;

  const drawHalf = (side, show) => {
    const now = state(model.get(side));
    const values = path.values.subarray(now.index * size, (now.index + 1) * size);
    const start = path.values.subarray(0, size);
    picture(show.part(`${side}-image`), values, [channels, height, width]);
    const change = Float32Array.from({ length: height * width }, (_, p) => {
      let sum = 0;
      for (let c = 0; c < channels; c++) sum += values[c * height * width + p] - start[c * height * width + p];
      return sum / channels / 255 / data.epsilon;
    });
    signedPicture(show.part(`${side}-change`), change, [height, width]);
    const seen = gradients.values.subarray(now.index * height * width, (now.index + 1) * height * width);
    signedPicture(show.part(`${side}-gradient`), Float32Array.from(seen, (value) => (value - 128) / 127), [height, width]);
    show.put(`${side}-heading`, `Served at ${words(now)}.`);
    show.put(`${side}-image-words`, `step ${model.get("step")}`);
    show.put(`${side}-change-words`, `up to ${now.change.toFixed(3)}`);
    show.put(`${side}-gradient-words`, now.gradient ? `up to ${short(now.gradient)}` : "exactly 0");
    probabilityBars(show, `${side}-softmax`, now.probs, data.class_names, data.label, `probabilities as served at ${words(now)}`);
  };

  const temperatures = data.temperatures.map((t) => [t, `T_d = ${short(t)}`]);
  return mount(model, el, {
    title: data.title,
    controls: [
      { name: "step", label: "PGD step", values: [...Array(nSteps).keys()], text: (step) => `step ${step} of ${nSteps - 1}` },
      { kind: "list", name: "left", label: "Left:", options: temperatures },
      { kind: "list", name: "right", label: "Right:", options: temperatures },
    ],
    body: '<p class="rl-reading">Change and gradient: purple below 0, orange above; pixel values from 0 to 1. The gradient is that of the cross-entropy as served, in float32.</p>' +
      `<div class="rl-panels">${half("left")}${half("right")}</div>`,
    draw: (show) => ["left", "right"].forEach((side) => drawHalf(side, show)),
    say: () => `Step ${model.get("step")}. ` + ["left", "right"].map((side) => {
      const now = state(model.get(side));
      return `Served at ${words(now)}, probability ${Math.max(...now.probs).toFixed(3)}, pixels changed by up to ${now.change.toFixed(3)}, ` +
        `gradient ${now.gradient ? `up to ${short(now.gradient)}` : "exactly 0"}.`;
    }).join(" "),
  });
};

export default { render };
