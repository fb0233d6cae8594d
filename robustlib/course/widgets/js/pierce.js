// Pierce it yourself: the learner is the adversary, against a hidden design temperature.
import { nearest } from "./numbers.js";
import { curves, frame, line, logSteps, mount, panel, readings, short } from "./chart.js";

export const render = ({ model, el }) => {
  const data = model.get("stored");
  const exponents = data.temperatures.map(Math.log10);
  const reach = Math.round(Math.max(...exponents.map(Math.abs)));
  const tried = logSteps(-reach, reach, 4);
  const best = Math.min(...data.accuracy);

  const round = () => {
    const hidden = data.hidden[model.get("round") % data.hidden.length];
    const at = (temperature) => nearest(data.temperatures, hidden * temperature);
    const asked = model.get("asked");
    const naive = data.accuracy[at(1)];
    const lowest = Math.min(naive, ...asked.map(([, accuracy]) => accuracy));
    return { hidden, asked, naive, accuracy: (t) => data.accuracy[at(t)], confidence: (t) => data.confidence[at(t)],
      left: data.budget - asked.length, score: (100 * (naive - lowest)) / (naive - best) };
  };

  const change = (values) => {
    for (const [name, value] of Object.entries(values)) model.set(name, value);
    model.save_changes();
  };
  const attack = () => {
    const { asked, accuracy, left } = round();
    const temperature = model.get("temperature");
    if (left > 0 && !asked.some(([t]) => t === temperature)) change({ asked: [...asked, [temperature, accuracy(temperature)]] });
  };

  const state = () => {
    const { hidden, left, score } = round();
    return left > 0 ? `${left} of ${data.budget} attacks left; pierced so far: ${score.toFixed(0)} of 100`
      : `The hidden T_d was ${short(hidden)}. You pierced ${score.toFixed(0)} of 100`;
  };

  const dismount = mount(model, el, {
    title: data.title,
    watch: ["asked", "round"],
    controls: [{ name: "temperature", label: "Your adversary temperature T<sub>a</sub>", note: "(no unit, log scale)", values: tried, text: (t) => `T_a = ${short(t)}` }],
    body: '<p class="rl-buttons"><button type="button" data-part="attack">Attack (costs 1)</button> <button type="button" data-part="again">New game</button></p>' +
      '<p data-part="state" class="rl-state"></p>' +
      readings([["confidence", "your copy is confident (free)"], ["clean", "it is accurate"], ["naive", "stand under attack as served"]]) +
      panel("game", "Your attacks.", "Dots: share of images that stood after each of your attacks. Diamond: mean confidence of your copy at this T<sub>a</sub>. Dashed: clean accuracy; dash-dotted: the attack on the model as served. The whole curve is shown at the end."),
    draw: (show) => {
      const { asked, naive, accuracy, confidence, left } = round();
      const temperature = model.get("temperature");
      const ends = [tried[0], tried[tried.length - 1]];
      const plot = frame({ x: ends, y: [0, 102], xlog: true, xlabel: "adversary temperature T_a (log scale)", ylabel: "percent", height: 230 });
      const { px, py } = plot;
      const across = (value, kind) => line(ends.map((t) => [px(t), py(value)]), kind);
      const every = left > 0 ? "" : curves([tried.map((t) => [t, accuracy(t)])], plot);
      const [x, y] = [px(temperature), py(confidence(temperature))];
      const dots = asked.map(([t, value]) => `<circle class="rl-attack" cx="${px(t)}" cy="${py(value)}" r="5.5"/>`);
      show.draw("game", plot.axes + across(data.clean, "rl-reference") + across(naive, "rl-naive") + every +
        line([[x, py(0)], [x, py(102)]], "rl-chosen") + `<path class="rl-diamond" d="M${x} ${y - 6}l6 6l-6 6l-6 -6z"/>` + dots.join(""),
        asked.map(([t, value]) => `T_a = ${short(t)}: ${value.toFixed(1)} % stood`).join("; ") || "no attack yet", 230);
      show.put("state", `${state()}.`);
      show.put("confidence", `${confidence(temperature).toFixed(1)} %`);
      show.put("clean", `${data.clean.toFixed(1)} %`);
      show.put("naive", `${naive.toFixed(1)} %`);
      show.part("attack").disabled = left <= 0;
    },
    say: () => {
      const { asked, confidence } = round();
      const temperature = model.get("temperature");
      return `T_a = ${short(temperature)}: your copy is ${confidence(temperature).toFixed(1)} % confident. ${state()}. ` +
        asked.map(([t, value]) => `T_a = ${short(t)}: ${value.toFixed(1)} % stood.`).join(" ");
    },
  });
  el.querySelector('[data-part="attack"]').addEventListener("click", attack);
  el.querySelector('[data-part="again"]').addEventListener("click", () => change({ round: model.get("round") + 1, asked: [] }));
  return dismount;
};

export default { render };
