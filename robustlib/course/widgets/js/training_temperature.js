// Training temperature: margins, logit ranges and the trade-off of accuracies over the T of the training loss.
import { curves, frame, key, line, mount, panel, short } from "./chart.js";

const LABELS = { accuracy: "accuracy (%)", logit_range: "logit range (logits)", margin: "margin (logits)" };

export const render = ({ model, el }) => {
  const data = model.get("stored");
  const { temperatures, series } = data;
  const panels = Object.keys(series).filter((name) => Object.keys(series[name]).length);
  const measured = (points) => points.map((point, i) => [temperatures[i], ...(point || [null])]).filter(([, mean]) => mean !== null);
  const attacked = Object.keys(series.accuracy).filter((name) => name !== "clean");
  const here = () => temperatures.indexOf(model.get("temperature"));
  const ring = (points) => (points[here()] ? [[temperatures[here()], points[here()][0]]] : []);
  const interval = ([mean, low, high]) => short(mean) + (low === null ? "" : ` [${short(low)}, ${short(high)}]`);

  const values = (name) => Object.entries(series[name]).filter(([, points]) => points[here()])
    .map(([curve, points]) => `${curve} ${interval(points[here()])} ${name === "accuracy" ? "%" : "logits"}`).join("; ") || "not measured";

  const rangeOf = (name, all) => {
    const numbers = all.flat().slice().filter((value) => value !== null);
    const [low, high] = [Math.min(...numbers), Math.max(...numbers)];
    if (name === "accuracy") return { y: [0, 102] };
    const ylog = low > 0; // they span decades
    return ylog ? { y: [low / 1.3, high * 1.3], ylog } : { y: [low - 0.05 * (high - low), high + 0.05 * (high - low) || 1] };
  };

  const drawCurves = (name, show) => {
    const all = Object.values(series[name]).map(measured);
    const ends = [temperatures[0] / 1.3, temperatures[temperatures.length - 1] * 1.3];
    const plot = frame({ x: ends, xlog: true, ...rangeOf(name, all.map((points) => points.map((point) => point.slice(1)).flat())), xlabel: "training temperature T (log scale)", ylabel: LABELS[name] });
    show.draw(name, plot.axes + curves(all, plot, Object.values(series[name]).flatMap(ring)), `${LABELS[name]}: ${values(name)}`);
    show.put(`${name}-words`, values(name));
  };

  const drawTradeOff = (show) => {
    const clean = series.accuracy.clean;
    const pairs = (points) => points.map((point, i) => (point && clean[i] ? [clean[i][0], point[0]] : null));
    const every = attacked.flatMap((name) => pairs(series.accuracy[name]).filter(Boolean).map(([x]) => x));
    const [low, high] = [Math.min(...every, 100), Math.max(...every, 0)];
    const room = Math.max(1, 0.1 * (high - low));
    const plot = frame({ x: [low - room, high + room], y: [0, 102], xlabel: "clean accuracy (%)", ylabel: "adversarial accuracy (%)" });
    const drawn = attacked.map((name, i) => {
      const points = pairs(series.accuracy[name]);
      const there = points.filter(Boolean).map(([x, y]) => [plot.px(x), plot.py(y)]);
      const ringed = points[here()] ? `<circle class="rl-ring" cx="${plot.px(points[here()][0])}" cy="${plot.py(points[here()][1])}" r="8"/>` : "";
      const kind = `rl-series${(i + 1) % 6}`;
      return line(there, `${kind} rl-curve`) + there.map(([x, y]) => `<circle class="${kind} rl-point" cx="${x}" cy="${y}" r="2.5"/>`).join("") + ringed;
    });
    show.draw("trade-off", plot.axes + drawn.join(""), `adversarial against clean accuracy, trained at T = ${short(model.get("temperature"))}: ${values("accuracy")}`);
  };

  const heading = { accuracy: "Accuracy.", logit_range: "Logit range.", margin: "Margin." };
  return mount(model, el, {
    title: data.title,
    controls: [{ name: "temperature", label: "Training temperature T", note: "(no unit)", values: temperatures, text: (t) => `T = ${short(t)}` }],
    body: '<div class="rl-panels">' + (attacked.length ? panel("trade-off", "Trade-off.", "One point for each training temperature; ring: this one.") : "") +
      panels.map((name) => panel(name, heading[name], "Band: 95 % interval.", key(Object.keys(series[name])) + `<p data-part="${name}-words" class="rl-reading"></p>`)).join("") + "</div>",
    draw: (show) => {
      if (attacked.length) drawTradeOff(show);
      panels.forEach((name) => drawCurves(name, show));
    },
    say: () => `Trained at T = ${short(model.get("temperature"))}. ` + panels.map((name) => `${LABELS[name]}: ${values(name)}`).join(". "),
  });
};

export default { render };
