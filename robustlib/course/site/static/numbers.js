// What a temperature does to stored logits: no page, no drawing, so that a test can compare it with Python's numbers.
"use strict";

const numbers = (() => {
  const f32 = Math.fround; // after every operation: float32 is what the attacked model computes in
  const PROBABILITY_WALL = 24 * Math.LN2;
  const GRADIENT_WALL = 150 * Math.LN2;

  const bytes = (base64) => Uint8Array.from(atob(base64), (sign) => sign.charCodeAt(0));

  /** {shape, values} as stored, values as a Float32Array. */
  const array = ({ shape, values }) => ({ shape, values: new Float32Array(bytes(values).buffer) });

  const row = (logits, index) => {
    const classes = logits.shape[logits.shape.length - 1];
    return logits.values.subarray(index * classes, (index + 1) * classes);
  };

  const argmax = (values) => values.reduce((best, value, i) => (value > values[best] ? i : best), 0);

  /** Probabilities in double precision: how confident the model is, before any rounding. */
  const softmax = (logits, temperature) => {
    const largest = Math.max(...logits) / temperature;
    const powers = Array.from(logits, (logit) => Math.exp(logit / temperature - largest));
    const total = powers.reduce((sum, power) => sum + power, 0);
    return powers.map((power) => power / total);
  };

  /** The same in float32, operation by operation. */
  const softmax32 = (logits, temperature) => {
    const scaled = Float32Array.from(logits, (logit) => logit / temperature);
    const largest = Math.max(...scaled);
    const powers = scaled.map((logit) => Math.exp(f32(logit - largest)));
    const total = powers.reduce((sum, power) => f32(sum + power), 0);
    return powers.map((power) => power / total);
  };

  /** Gradient of the cross-entropy by the scaled logits, p - onehot, in float32. */
  const gradient = (logits, label, temperature) => {
    const slopes = softmax32(logits, temperature);
    slopes[label] = f32(slopes[label] - 1);
    return slopes;
  };

  /** Accuracy, mean confidence, ECE, NLL (nats), the bins (low, high] of both, and each confidence. */
  const calibration = (logits, labels, temperature, nBins = 15) => {
    const n = labels.length;
    const bins = Array.from({ length: nBins }, () => ({ count: 0, confidence: 0, accuracy: 0 }));
    const confidences = new Float64Array(n);
    let [right, sure, nll] = [0, 0, 0];
    for (let i = 0; i < n; i++) {
      const here = row(logits, i);
      const top = argmax(here);
      const probs = softmax(here, temperature);
      const confidence = Math.min(probs[top], 1);
      const largest = here[top] / temperature;
      const total = here.reduce((sum, logit) => sum + Math.exp(logit / temperature - largest), 0);
      const bin = bins[Math.min(nBins - 1, Math.max(0, Math.ceil(confidence * nBins) - 1))];
      bin.count += 1;
      bin.confidence += confidence;
      bin.accuracy += top === labels[i] ? 1 : 0;
      right += top === labels[i] ? 1 : 0;
      sure += confidence;
      nll += Math.log(total) + largest - here[labels[i]] / temperature;
      confidences[i] = confidence;
    }
    let ece = 0;
    for (const bin of bins) {
      if (bin.count) {
        ece += Math.abs(bin.accuracy - bin.confidence) / n;
        bin.confidence /= bin.count;
        bin.accuracy /= bin.count;
      }
    }
    return { n, accuracy: right / n, meanConfidence: sure / n, ece, nll: nll / n, bins, confidences };
  };

  /** Shares of examples behind each float32 wall, and of cross-entropy gradients that are exactly 0 or one-sided. */
  const walls = (logits, labels, temperature) => {
    const count = { beyondProbability: 0, beyondGradient: 0, zeroGradient: 0, oneSided: 0 };
    for (let i = 0; i < labels.length; i++) {
      const here = row(logits, i);
      const scaled = Float32Array.from(here, (logit) => logit / temperature).sort();
      const gap = f32(scaled[scaled.length - 1] - scaled[scaled.length - 2]);
      const slopes = gradient(here, labels[i], temperature);
      const zero = slopes.every((slope) => slope === 0);
      count.beyondProbability += gap > PROBABILITY_WALL ? 1 : 0;
      count.beyondGradient += gap > GRADIENT_WALL ? 1 : 0;
      count.zeroGradient += zero ? 1 : 0;
      count.oneSided += slopes[labels[i]] === 0 && !zero ? 1 : 0;
    }
    for (const key of Object.keys(count)) count[key] /= labels.length;
    return count;
  };

  /** log10 of the temperature with the lowest NLL within [low, high]; the NLL is convex in 1 / T, so unimodal here. */
  const calibrated = (logits, labels, low, high) => {
    const loss = (exponent) => calibration(logits, labels, 10 ** exponent).nll;
    while (high - low > 0.01) {
      const third = (high - low) / 3;
      if (loss(low + third) < loss(high - third)) high -= third;
      else low += third;
    }
    return (low + high) / 2;
  };

  const margin = (logits, label) => {
    let other = -Infinity;
    for (let i = 0; i < logits.length; i++) if (i !== label && logits[i] > other) other = logits[i];
    return f32(other - logits[label]);
  };

  const LOSSES = {
    "cross-entropy": (logits, label, temperature) => {
      const divisor = f32(temperature);
      const scaled = logits.map((logit) => logit / divisor);
      const largest = Math.max(...scaled);
      const total = scaled.reduce((sum, logit) => f32(sum + f32(Math.exp(f32(logit - largest)))), 0);
      return 0 - f32(f32(scaled[label] - largest) - f32(Math.log(total)));
    },
    margin,
    dlr: (logits, label) => {
      const ordered = logits.slice().sort().reverse();
      const spread = f32(ordered[0] - ordered[2]);
      return f32(margin(logits, label) / (spread > 0 ? spread : 1));
    },
  };

  /** Mean of a loss over the examples at each grid point, flat (side * side), first axis first. */
  const surface = (logits, labels, loss, temperature) => {
    const [side, , n] = logits.shape;
    return Float32Array.from({ length: side * side }, (_, point) => {
      let sum = 0;
      for (let i = 0; i < n; i++) sum += LOSSES[loss](row(logits, point * n + i), labels[i], temperature);
      return sum / n;
    });
  };

  /** Whether each grid point equals all its neighbours to the last bit. */
  const still = (values, side) =>
    Array.from(values, (value, point) => {
      const [x, y] = [Math.floor(point / side), point % side];
      const near = [[x - 1, y], [x + 1, y], [x, y - 1], [x, y + 1]];
      return near.every(([i, j]) => i < 0 || j < 0 || i >= side || j >= side || values[i * side + j] === value);
    });

  return { PROBABILITY_WALL, GRADIENT_WALL, bytes, array, row, argmax, softmax, gradient, calibration, walls, calibrated, surface, still };
})();
