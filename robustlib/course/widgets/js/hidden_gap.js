// What T(x) = gap / kappa shows for every kappa, from stored logits.
import { calibrationOf, floats, gaps, nearest } from "./numbers.js";
import { curves, frame, key, line, logSteps, mount, panel, percent, readings, short } from "./chart.js";

export const render = ({ model, el }) => {
  const data = model.get("stored");
  const logits = floats(data.logits);
  const before = gaps(logits, data.labels.length);
  const shownAt = (kappa) => calibrationOf(logits, data.labels, (i) => (before[i] > 0 ? before[i] : kappa) / kappa);
  const kappas = logSteps(-1.3, 1.3);
  const reports = kappas.map(shownAt);
  const names = ["mean confidence", "expected calibration error"];
  const series = [reports.map((report, i) => [kappas[i], 100 * report.meanConfidence]), reports.map((report, i) => [kappas[i], 100 * report.ece])];
  const best = kappas[series[0].reduce((least, [, value], i) => {
    const distance = (confidence) => Math.abs(confidence - 100 * reports[0].accuracy);
    return distance(value) < distance(series[0][least][1]) ? i : least;
  }, 0)];
  const largest = before.reduce((a, b) => Math.max(a, b), 0);
  const counts = new Array(40).fill(0);
  for (const gap of before) counts[Math.min(39, Math.floor((gap / largest) * 40))] += 1;
  let report;

  return mount(model, el, {
    title: data.title,
    controls: [{ name: "kappa", label: "Gap shown for every input, κ", note: "(logits, log scale)", values: kappas, text: (kappa) => `κ = ${short(kappa)}`,
      presets: [[best, `as confident as accurate, κ = ${short(best)}`]] }],
    body: readings([["accuracy", "accuracy (never changes)"], ["confidence", "mean confidence"], ["ece", "ECE, 15 bins"]]) + '<div class="rl-panels">' +
      panel("gaps", "Gaps before and after.", "Bars: gap of the two largest logits of the model. Line: the gap shown instead, the same for every input.") +
      panel("sweep", "What the answers look like.", "Dashed: accuracy.", key(names)) + "</div>",
    draw: (show) => {
      const kappa = model.get("kappa");
      report = shownAt(kappa);
      const left = frame({ x: [0, Math.max(largest, 1)], y: [0, 1.05 * Math.max(...counts)], xlabel: "gap of the two largest logits", ylabel: "inputs" });
      const width = left.px(largest / 40) - left.px(0);
      const bars = counts.map((count, i) => (count ? `<rect class="rl-bar rl-pale" x="${left.px((i * largest) / 40) + 0.5}" width="${Math.max(width - 1, 0.5)}" y="${left.py(count)}" height="${left.py(0) - left.py(count)}"/>` : ""));
      const mark = Math.min(kappa, Math.max(largest, 1));
      show.draw("gaps", left.axes + bars.join("") + line([[left.px(mark), left.py(0)], [left.px(mark), left.py(1.05 * Math.max(...counts))]], "rl-mean"),
        `gaps from 0 to ${short(largest)} logits; shown: ${short(kappa)} for every input`);
      const plot = frame({ x: [kappas[0], kappas[kappas.length - 1]], xlog: true, y: [0, 102], xlabel: "κ (logits, log scale)", ylabel: "percent" });
      const reference = line([[plot.px(kappas[0]), plot.py(100 * report.accuracy)], [plot.px(kappas[kappas.length - 1]), plot.py(100 * report.accuracy)]], "rl-reference");
      const at = nearest(kappas, kappa);
      show.draw("sweep", plot.axes + reference + curves(series, plot, series.map((points) => points[at])),
        `at κ = ${short(kappa)}: mean confidence ${percent(report.meanConfidence)}, calibration error ${percent(report.ece)}`);
      show.put("accuracy", percent(report.accuracy));
      show.put("confidence", percent(report.meanConfidence));
      show.put("ece", percent(report.ece));
    },
    say: () => `Every input is shown with a gap of ${short(model.get("kappa"))} logits: accuracy ${percent(report.accuracy)}, mean confidence ${percent(report.meanConfidence)}, ECE ${percent(report.ece)}.`,
  });
};

export default { render };
