// Temperature lab: everything that one temperature changes about a classifier, side by side, from stored logits.
import { argmax, bytes, calibrated, calibration, floats, gradient, inputGradient, nearest, row, softmax, walls } from "./numbers.js";
import { curves, frame, key, line, logSteps, mount, panel, percent, picture, probabilityBars, readings, short, signedPicture, TRUE_KEY } from "./chart.js";

const reliability = ({ bins, n, ece }, show) => {
  const plot = frame({ x: [0, 1.02], y: [0, 1.02], xlabel: "confidence (largest probability)", ylabel: "accuracy (fraction correct)", height: 300 });
  const { px, py } = plot;
  const marks = bins.filter((bin) => bin.count).map((bin) =>
    line([[px(bin.confidence), py(bin.accuracy)], [px(bin.confidence), py(bin.confidence)]], "rl-gap") +
    `<circle class="rl-dot" cx="${px(bin.confidence)}" cy="${py(bin.accuracy)}" r="${3 + 8 * Math.sqrt(bin.count / n)}"/>`);
  show.draw("reliability", plot.axes + line([[px(0), py(0)], [px(1), py(1)]], "rl-reference") + marks.join(""),
    `reliability diagram, expected calibration error ${percent(ece)}`, 300);
};

const histogram = ({ confidences, n, meanConfidence, accuracy }, show) => {
  const counts = new Array(30).fill(0);
  for (const value of confidences) counts[Math.min(29, Math.floor(value * 30))] += 1;
  const { px, py, axes } = frame({ x: [0, 1], y: [0, 1.02], xlabel: "confidence (largest probability)", ylabel: "share of examples" });
  const bars = counts.map((count, i) => (count ? `<rect class="rl-bar rl-model" x="${px(i / 30) + 0.5}" y="${py(count / n)}"` +
    ` width="${px(1 / 30) - px(0) - 1}" height="${py(0) - py(count / n)}"/>` : ""));
  const marks = line([[px(meanConfidence), py(0)], [px(meanConfidence), py(1.02)]], "rl-mean") +
    line([[px(accuracy), py(0)], [px(accuracy), py(1.02)]], "rl-reference");
  show.draw("histogram", axes + bars.join("") + marks, `histogram of confidences, mean ${percent(meanConfidence)}, accuracy ${percent(accuracy)}`);
};

const wallBars = (shares, show) => {
  const rows = [
    ["1 − p rounds to 0 (gap over 16.6 T)", shares.beyondProbability, "rl-model"],
    ["every other p rounds to 0 (gap over 104 T)", shares.beyondGradient, "rl-model"],
    ["cross-entropy gradient exactly 0", shares.zeroGradient, "rl-gradient"],
    ["gradient 0 for the true class only", shares.oneSided, "rl-gradient"],
  ];
  const bars = rows.map(([name, share, kind], i) => `<text x="4" y="${18 + 50 * i}">${name}</text>` +
    `<rect class="rl-track" x="4" y="${25 + 50 * i}" width="290" height="14"/>` +
    `<rect class="rl-bar ${kind}" x="4" y="${25 + 50 * i}" width="${290 * share}" height="14"/>` +
    `<text x="302" y="${37 + 50 * i}">${percent(share)}</text>`);
  show.draw("walls", bars.join(""), rows.map(([name, share]) => `${name}: ${percent(share)}`).join("; "), 204);
};

export const render = ({ model, el }) => {
  const data = model.get("stored");
  const logits = floats(data.logits);
  const pictures = data.pictures && bytes(data.pictures);
  const jacobian = data.jacobian && floats(data.jacobian);
  const attacks = Object.entries(data.adversarial_accuracy);
  const exponents = attacks.flatMap(([, points]) => points.map(([t]) => Math.log10(t)));
  const [low, high] = exponents.length ? [Math.floor(Math.min(...exponents)), Math.ceil(Math.max(...exponents))] : [-4, 4];
  const best = 10 ** calibrated(logits, data.labels, low, high);
  let report;

  const example = (place, temperature, show) => {
    const index = data.examples[place];
    const [values, label] = [row(logits, index), data.labels[index]];
    const probs = softmax(values, temperature);
    const top = argmax(values);
    probabilityBars(show, "softmax", probs, data.class_names, label,
      `probabilities of the example at T = ${short(temperature)}: ${data.class_names[top]} has ${probs[top].toFixed(4)}`);
    const slopes = gradient(values, label, temperature);
    const largest = slopes.reduce((size, slope) => Math.max(size, Math.abs(slope)), 0);
    const zeros = slopes.filter((slope) => slope === 0).length;
    show.put("gradient", "Gradient the attacker sees, with respect to the scaled logits: " + (largest === 0
      ? "exactly 0 in every logit, no direction to go."
      : `up to ${short(largest)}, exactly 0 in ${zeros} of ${slopes.length} logits${slopes[label] === 0 ? ", the true class among them" : ""}.`));
    if (pictures) {
      const shape = pictures.shape.slice(1);
      const size = shape.reduce((a, b) => a * b);
      picture(show.part("picture"), pictures.values.subarray(place * size, (place + 1) * size), shape);
      if (jacobian) pixels(place, slopes, shape, show);
    }
    if (data.sentences) show.put("sentence", data.sentences[place]);
  };

  const pixels = (place, slopes, [channels, height, width], show) => {
    const n = channels * height * width;
    const change = inputGradient(slopes, jacobian.values.subarray(place * slopes.length * n, (place + 1) * slopes.length * n), n);
    const summed = Float64Array.from({ length: height * width }, (_, p) => {
      let sum = 0;
      for (let c = 0; c < channels; c++) sum += change[c * height * width + p];
      return sum;
    });
    const largest = summed.reduce((size, value) => Math.max(size, Math.abs(value)), 0);
    signedPicture(show.part("pixels"), summed.map((value) => value / (largest || 1)), [height, width]);
    show.put("pixel-words", largest ? `up to ${short(largest / model.get("temperature"))}` : "exactly 0");
  };

  const attack = (temperature, accuracy, show) => {
    if (!attacks.length) return;
    const plot = frame({ x: [10 ** low, 10 ** Math.max(high, low + 1)], y: [0, 102], xlog: true, xlabel: "design temperature T_d (log scale)", ylabel: "adversarial accuracy (%)" });
    const rings = attacks.map(([, points]) => points[nearest(points.map(([t]) => t), temperature)]);
    const clean = line([[plot.px(10 ** low), plot.py(100 * accuracy)], [plot.px(10 ** high), plot.py(100 * accuracy)]], "rl-reference");
    show.draw("attack", plot.axes + clean + curves(attacks.map(([, points]) => points), plot, rings), `adversarial accuracy against temperature; ${reached(temperature)}`);
    show.put("attack-words", reached(temperature));
  };

  const reached = (temperature) => attacks.map(([name, points]) => {
    const [t, accuracy] = points[nearest(points.map(([other]) => other), temperature)];
    return `${name}: ${accuracy.toFixed(1)} % (measured at T_d = ${short(t)})`;
  }).join(" · ");

  const look = pictures
    ? '<div class="rl-pair"><figure><canvas data-part="picture" role="img" aria-label="the example"></canvas><figcaption>image</figcaption></figure>' +
      (jacobian ? '<figure><canvas data-part="pixels" role="img" aria-label="gradient by pixel"></canvas><figcaption>gradient by pixel, <span data-part="pixel-words"></span></figcaption></figure>' : "") + "</div>"
    : data.sentences ? '<blockquote data-part="sentence"></blockquote>' : "";
  const body = readings([["accuracy", "accuracy (never changes)"], ["confidence", "mean confidence"], ["ece", "ECE, 15 bins"], ["nll", "NLL (nats)"]]) +
    '<div class="rl-panels">' +
    (attacks.length ? panel("attack", "What an attack then reports.", "From the records of this run, not computed here. Dashed: clean accuracy; ring: the nearest temperature that was attacked.",
      key(attacks.map(([name]) => name)) + '<p data-part="attack-words" class="rl-reading"></p>') : "") +
    `<figure class="rl-panel"><figcaption><strong>One example.</strong></figcaption>${look}<svg data-part="softmax" viewBox="0 0 360 270" role="img"></svg>` +
    `${TRUE_KEY}<p data-part="gradient" class="rl-reading"></p></figure>` +
    panel("reliability", "Does confidence match accuracy?", "A dot on the dashed line is as accurate as it is confident; the bars are the gaps that ECE averages; the area is the share of examples.") +
    panel("histogram", "How confident is the model?", `Confidences of all ${data.labels.length} examples. Solid line: their mean; dashed: accuracy.`) +
    panel("walls", "Behind the float32 walls.", "Share of examples whose signal has been rounded away. Gap: largest minus second largest logit.") + "</div>";

  return mount(model, el, {
    title: data.title,
    controls: [
      { name: "temperature", label: "Temperature T", note: "(no unit, log scale)", values: logSteps(low, high), text: (t) => `T = ${short(t)}`,
        presets: [[0.001, "T = 0.001"], [1, "as trained, T = 1"], [100, "T = 100"], [Number(best.toPrecision(4)), `lowest NLL here, T = ${short(best)}`]] },
      { kind: "list", name: "example", label: "Example, by its true class:",
        options: data.examples.map((index, place) => [place, `${place + 1}: ${data.class_names[data.labels[index]]}`]) },
    ],
    body,
    draw: (show) => {
      const temperature = model.get("temperature");
      report = calibration(logits, data.labels, temperature);
      example(model.get("example"), temperature, show);
      reliability(report, show);
      histogram(report, show);
      wallBars(walls(logits, data.labels, temperature), show);
      attack(temperature, report.accuracy, show);
      show.put("accuracy", percent(report.accuracy));
      show.put("confidence", percent(report.meanConfidence));
      show.put("ece", percent(report.ece));
      show.put("nll", short(report.nll));
    },
    say: () => `At T = ${short(model.get("temperature"))}: accuracy ${percent(report.accuracy)}, mean confidence ${percent(report.meanConfidence)}, ` +
      `ECE ${percent(report.ece)}, NLL ${short(report.nll)} nats. ${reached(model.get("temperature"))}`,
  });
};

export default { render };
