// The temperature page: every number and panel from the stored logits at the slider's T.
"use strict";

(() => {
  const { at, put, draw, short, percent, frame, line, escape } = chart;
  const data = chart.stored();
  const logits = numbers.array(data.logits);
  const slider = at("temperature");
  const example = at("example");
  const series = Object.entries(data.adversarial_accuracy);

  const softmaxPanel = (temperature, index) => {
    const values = numbers.row(logits, index);
    const probs = numbers.softmax(values, temperature);
    const order = probs.map((_, i) => i);
    // With many classes only the likeliest are shown; ten are shown in their own order, so that no bar jumps.
    const shown = order.length <= 12 ? order : order.sort((a, b) => values[b] - values[a]).slice(0, 12);
    const step = Math.min(30, 240 / shown.length);
    const bars = shown.map((i, place) => {
      const y = 6 + place * step;
      const kind = i === data.labels[index] ? "true" : "model";
      const name = data.class_names[i].length > 16 ? data.class_names[i].slice(0, 15) + "…" : data.class_names[i];
      return `<text x="104" y="${y + step * 0.62}" text-anchor="end">${escape(name)}</text>` +
        `<rect class="bar ${kind}" x="110" y="${y}" height="${step * 0.75}" width="${190 * probs[i]}"/>` +
        `<text x="${114 + 190 * probs[i]}" y="${y + step * 0.62}">${probs[i] >= 0.0005 ? probs[i].toFixed(3) : short(probs[i])}</text>`;
    });
    const top = numbers.argmax(values);
    const label = `probabilities of the example at T = ${short(temperature)}: ${data.class_names[top]} has ${probs[top].toFixed(4)}`;
    draw("softmax", bars.join(""), label, 12 + step * shown.length);

    const slopes = numbers.gradient(values, data.labels[index], temperature);
    const largest = Math.max(...slopes.map(Math.abs));
    const words = largest === 0 ? "exactly 0 in every logit: the attacker sees nothing"
      : slopes[data.labels[index]] === 0 ? `one-sided: exactly 0 for the true class, up to ${short(largest)} for others`
      : `up to ${short(largest)}`;
    put("gradient", `Gradient the attacker sees, by the scaled logits: ${words}.`);
  };

  const reliabilityPanel = ({ bins, n, ece }) => {
    const ticks = [0, 0.2, 0.4, 0.6, 0.8, 1];
    const { px, py, axes } = frame({ x: [0, 1.02], y: [0, 1.02], xlabel: "confidence (largest probability)",
      ylabel: "accuracy (fraction correct)", xticks: ticks, yticks: ticks, height: 300 });
    const marks = bins.filter((bin) => bin.count).map((bin) =>
      line([[px(bin.confidence), py(bin.accuracy)], [px(bin.confidence), py(bin.confidence)]], "gap") +
      `<circle class="dot" cx="${px(bin.confidence)}" cy="${py(bin.accuracy)}" r="${3 + 8 * Math.sqrt(bin.count / n)}"/>`);
    draw("reliability", axes + line([[px(0), py(0)], [px(1), py(1)]], "reference") + marks.join(""),
      `reliability diagram, expected calibration error ${percent(ece)}`, 300);
  };

  const histogramPanel = ({ confidences, n, meanConfidence }) => {
    const counts = new Array(30).fill(0);
    for (const value of confidences) counts[Math.min(29, Math.floor(value * 30))] += 1;
    const { px, py, axes } = frame({ x: [0, 1], y: [0, 1.02], xlabel: "confidence (largest probability)",
      ylabel: "share of examples", xticks: [0, 0.2, 0.4, 0.6, 0.8, 1], yticks: [0, 0.2, 0.4, 0.6, 0.8, 1] });
    const bars = counts.map((count, i) => `<rect class="bar model" x="${px(i / 30) + 0.5}" y="${py(count / n)}"` +
      ` width="${px(1 / 30) - px(0) - 1}" height="${py(0) - py(count / n)}"/>`);
    draw("histogram", axes + bars.join(""), `histogram of confidences, mean ${percent(meanConfidence)}`);
  };

  const wallsPanel = (shares) => {
    const rows = [
      ["1 − p rounds to 0 (gap over 16.6 T)", shares.beyondProbability, "wall-probability"],
      ["every other p rounds to 0 (gap over 104 T)", shares.beyondGradient, "wall-gradient"],
      ["cross-entropy gradient exactly 0", shares.zeroGradient, "wall-zero"],
      ["gradient 0 for the true class only", shares.oneSided, "wall-one-sided"],
    ];
    const bars = rows.map(([name, share, id], i) => `<text x="4" y="${18 + 50 * i}">${name}</text>` +
      `<rect class="track" x="4" y="${25 + 50 * i}" width="290" height="14"/>` +
      `<rect class="bar ${i < 2 ? "model" : "gradient"}" x="4" y="${25 + 50 * i}" width="${290 * share}" height="14"/>` +
      `<text id="${id}" x="302" y="${37 + 50 * i}">${percent(share)}</text>`);
    draw("walls", bars.join(""), rows.map(([name, share]) => `${name}: ${percent(share)}`).join("; "), 204);
  };

  const accuracyPanel = (temperature, accuracy) => {
    if (!series.length) return;
    const exponents = series.flatMap(([, pairs]) => pairs.map(([t]) => Math.log10(t)));
    const [low, high] = [Math.floor(Math.min(...exponents)), Math.ceil(Math.max(...exponents))];
    const step = Math.ceil((high - low) / 8);
    const xticks = [];
    for (let tick = low; tick <= high; tick += step) xticks.push(tick);
    const { px, py, axes } = frame({ x: [low, Math.max(high, low + 1)], y: [0, 102], xticks, power: true, yticks: [0, 20, 40, 60, 80, 100],
      xlabel: "design temperature T (log scale)", ylabel: "adversarial accuracy (%)" });
    const nearest = (pairs) => pairs.reduce((best, pair) =>
      Math.abs(Math.log(pair[0] / temperature)) < Math.abs(Math.log(best[0] / temperature)) ? pair : best);
    const said = [];
    const curves = series.map(([name, pairs], i) => {
      const [t, value] = nearest(pairs);
      said.push(`${name}: ${value.toFixed(1)} % (recorded at T = ${short(t)})`);
      const marks = pairs.map(([x, y]) => `<circle class="series${i % 6} point" cx="${px(Math.log10(x))}" cy="${py(y)}" r="2.5"/>`);
      return line(pairs.map(([x, y]) => [px(Math.log10(x)), py(y)]), `series${i % 6} curve`) + marks.join("") +
        `<circle class="here" cx="${px(Math.log10(t))}" cy="${py(value)}" r="8"/>`;
    });
    const clean = line([[px(low), py(100 * accuracy)], [px(high), py(100 * accuracy)]], "reference");
    draw("accuracy-curve", axes + clean + curves.join(""), "adversarial accuracy against temperature; " + said.join("; "));
    put("adversarial-accuracy", said.join(" · "));
  };

  const examplePicture = (place) => {
    if (data.sentences) put("example-sentence", data.sentences[place]);
    if (!data.pictures) return;
    const [, channels, height, width] = data.pictures.shape;
    const bytes = numbers.bytes(data.pictures.values);
    const canvas = at("example-picture");
    [canvas.width, canvas.height] = [width, height];
    const image = new ImageData(width, height);
    const size = width * height;
    for (let i = 0; i < size; i++) {
      for (let c = 0; c < 3; c++) image.data[4 * i + c] = bytes[(place * channels + (channels === 1 ? 0 : c)) * size + i];
      image.data[4 * i + 3] = 255;
    }
    canvas.getContext("2d").putImageData(image, 0, 0);
  };

  let settled;
  const redraw = (temperature) => {
    const place = Number(example.value);
    const report = numbers.calibration(logits, data.labels, temperature);
    softmaxPanel(temperature, data.examples[place]);
    reliabilityPanel(report);
    histogramPanel(report);
    wallsPanel(numbers.walls(logits, data.labels, temperature));
    accuracyPanel(temperature, report.accuracy);
    put("accuracy", percent(report.accuracy));
    put("confidence", percent(report.meanConfidence));
    put("ece", percent(report.ece));
    put("nll", short(report.nll));
    clearTimeout(settled); // a screen reader hears where the slider came to rest, not every step on the way
    settled = setTimeout(() => put("status", `At T = ${short(temperature)}: accuracy ${percent(report.accuracy)}, ` +
      `mean confidence ${percent(report.meanConfidence)}, ECE ${percent(report.ece)}.`), 600);
  };

  example.innerHTML = data.examples.map((index, place) =>
    `<option value="${place}">${place + 1}: ${escape(data.class_names[data.labels[index]])}</option>`).join("");
  const best = numbers.calibrated(logits, data.labels, Number(slider.min), Number(slider.max));
  at("preset-calibrated").dataset.exponent = best.toFixed(2);
  at("preset-calibrated").textContent = `lowest NLL here, T = ${short(10 ** best)}`;
  const soon = chart.onTemperature(slider, redraw);
  example.addEventListener("input", () => {
    examplePicture(Number(example.value));
    soon();
  });
  examplePicture(0);
})();
