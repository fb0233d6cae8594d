// The whole idea at once: one image or sentence, the temperature it is served at, and what an attack then reports.
import { argmax, bytes, floats, nearest, softmax } from "./numbers.js";
import { curves, frame, line, logSteps, mount, panel, percent, picture, probabilityBars, short, TRUE_KEY } from "./chart.js";

export const render = ({ model, el }) => {
  const data = model.get("stored");
  const logits = floats(data.logits).values;
  const image = data.picture && bytes(data.picture);
  const temperatures = data.curve.map(([t]) => t);
  const [low, high] = [Math.log10(temperatures[0]), Math.log10(temperatures[temperatures.length - 1])].map(Math.round);
  const values = logSteps(low, high, Math.max(1, Math.round((temperatures.length - 1) / (high - low)))); // as measured
  const product = () => model.get("temperature") * model.get("adversary_temperature");
  const measured = (temperature) => data.curve[nearest(temperatures, temperature)];
  const verdict = () => {
    const [, left] = measured(product());
    return `Served at T_d = ${short(model.get("temperature"))}, your copy divided again by T_a = ${short(model.get("adversary_temperature"))}: ` +
      `${left.toFixed(1)} % of the ${data.unit} stand under ${data.attack}; ${data.clean.toFixed(1)} % are classified correctly at every temperature`;
  };

  return mount(model, el, {
    title: data.title,
    controls: [
      { name: "temperature", label: "Served at T<sub>d</sub>", values, text: (t) => `T_d = ${short(t)}`, presets: [[0.001, "0.001"], [1, "1, as trained"], [1000, "1000"]] },
      { name: "adversary_temperature", label: "Your copy's T<sub>a</sub>", note: "(1: you attack it as served)", values, text: (t) => `T_a = ${short(t)}` },
    ],
    body: '<p class="rl-verdict"><strong data-part="standing"></strong> <span data-part="words"></span></p><div class="rl-panels">' +
      panel("curve", `What ${data.attack} reports.`, "Ring: your attack. Diamond: as served, T<sub>a</sub> = 1. Dashed: clean accuracy.") +
      `<figure class="rl-panel"><figcaption><strong>What it says about one ${image ? "image" : "sentence"}.</strong> <span data-part="said"></span></figcaption>` +
      (image ? '<div class="rl-pair"><figure><canvas data-part="picture" role="img" aria-label="the image"></canvas></figure></div>' : `<blockquote data-part="sentence"></blockquote>`) +
      `<svg data-part="softmax" viewBox="0 0 360 270" role="img"></svg>${TRUE_KEY}</figure></div>`,
    draw: (show) => {
      const served = model.get("temperature");
      const plot = frame({ x: [10 ** low, 10 ** high], y: [0, 102], xlog: true, xlabel: "T_d × T_a (log scale)", ylabel: "adversarial accuracy (%)", height: 240 });
      const [x, y] = measured(served);
      const [px, py] = [plot.px(x), plot.py(y)];
      show.draw("curve", plot.axes + line([[plot.px(10 ** low), plot.py(data.clean)], [plot.px(10 ** high), plot.py(data.clean)]], "rl-reference") +
        curves([data.curve], plot, [measured(product())]) + `<path class="rl-hollow" d="M${px} ${py - 7}l7 7l-7 7l-7 -7z"/>`, verdict(), 240);
      const probs = softmax(logits, served);
      probabilityBars(show, "softmax", probs, data.class_names, data.label, `probabilities as served at T_d = ${short(served)}`);
      if (image) picture(show.part("picture"), image.values, image.shape.slice(1));
      else show.put("sentence", data.sentence);
      const top = argmax(logits);
      show.put("said", `${data.class_names[top]} at every T, now with probability ${probs[top].toFixed(4)}.`);
      show.put("standing", percent(measured(product())[1] / 100));
      show.put("words", `stand under ${data.attack}; as served ${y.toFixed(1)} %. Clean accuracy at every T: ${data.clean.toFixed(1)} %.`);
    },
    say: () => `${verdict()}.`,
  });
};

export default { render };
