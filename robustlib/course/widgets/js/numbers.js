// What a temperature does to stored logits: no page, no drawing, so that a test can compare it with Python's numbers.

const f32 = Math.fround; // after every operation: float32 is what the attacked model computes in
const LARGEST = f32(3.4028234663852886e38);
const BELOW_LARGEST = f32(3.4028232635611926e38);
export const PROBABILITY_WALL = 24 * Math.LN2;
export const GRADIENT_WALL = 150 * Math.LN2;

/** Bytes 0 to 255, {shape, values}, from base64. */
export const bytes = ({ shape, values }) => ({ shape, values: Uint8Array.from(atob(values), (sign) => sign.charCodeAt(0)) });

/** float32, {shape, values}, from base64. */
export const floats = (packed) => ({ shape: packed.shape, values: new Float32Array(bytes(packed).values.buffer) });

/** Row `index` of an array whose last axis are the classes. */
export const row = ({ shape, values }, index) => {
  const size = shape[shape.length - 1];
  return values.subarray(index * size, (index + 1) * size);
};

export const argmax = (values) => {
  let best = 0;
  for (let i = 1; i < values.length; i++) if (values[i] > values[best]) best = i;
  return best;
};

/** The next larger float32. */
const nextAbove = (value) => {
  const number = Float32Array.of(value);
  const bits = new Int32Array(number.buffer);
  bits[0] = value > 0 ? bits[0] + 1 : value < 0 ? bits[0] - 1 : 1;
  return number[0];
};

/** logits / T in float32 as `scale_logits`: within range, and the largest stays strictly above the rest. */
export const scaleLogits = (logits, temperature) => {
  const largest = Math.max(...logits);
  let second = -Infinity;
  const scaled = new Float32Array(logits.length);
  for (let i = 0; i < logits.length; i++) {
    const isTop = logits[i] === largest;
    scaled[i] = Math.min(Math.max(logits[i] / temperature, -LARGEST), isTop ? LARGEST : BELOW_LARGEST);
    if (!isTop && scaled[i] > second) second = scaled[i];
  }
  if (second > -Infinity) {
    const least = nextAbove(second);
    for (let i = 0; i < scaled.length; i++) if (logits[i] === largest && scaled[i] < least) scaled[i] = least;
  }
  return scaled;
};

/** Probabilities in double precision: how confident the model is, before any rounding. */
export const softmax = (logits, temperature) => {
  const largest = Math.max(...logits);
  const powers = Array.from(logits, (logit) => Math.exp((logit - largest) / temperature));
  const total = powers.reduce((sum, power) => sum + power, 0);
  return powers.map((power) => power / total);
};

/** Scaled logits become, in place, the gradient of the cross-entropy with respect to them, p - onehot, in float32. */
const intoGradient = (slopes, label) => {
  const largest = Math.max(...slopes);
  let total = 0;
  for (let i = 0; i < slopes.length; i++) {
    slopes[i] = Math.exp(f32(slopes[i] - largest));
    total = f32(total + slopes[i]);
  }
  for (let i = 0; i < slopes.length; i++) slopes[i] /= total;
  slopes[label] -= 1;
  return slopes;
};

/** Gradient of the cross-entropy with respect to the scaled logits, from the logits. */
export const gradient = (logits, label, temperature) => intoGradient(scaleLogits(logits, temperature), label);

/** Gradient with respect to the pixels, from the Jacobian (n_classes, n_pixels) of one example. */
export const inputGradient = (slopes, jacobian, nPixels) => {
  const result = new Float64Array(nPixels);
  slopes.forEach((slope, i) => {
    if (slope !== 0) for (let p = 0; p < nPixels; p++) result[p] += slope * jacobian[i * nPixels + p];
  });
  return result;
};

/** Accuracy, mean confidence, ECE, NLL (nats), the bins (low, high] of both, and each confidence.
 *  `divisor(i)`: what the logits of example i are divided by. */
export const calibrationOf = (logits, labels, divisor, nBins = 15) => {
  const n = labels.length;
  const bins = Array.from({ length: nBins }, () => ({ count: 0, confidence: 0, accuracy: 0 }));
  const confidences = new Float64Array(n);
  let [right, sure, nll] = [0, 0, 0];
  for (let i = 0; i < n; i++) {
    const values = row(logits, i);
    const temperature = divisor(i);
    const top = argmax(values);
    let total = 0;
    for (const value of values) total += Math.exp((value - values[top]) / temperature);
    const logTotal = Math.log(total);
    const confidence = Math.min(Math.exp(-logTotal), 1);
    let place = Math.min(nBins - 1, Math.max(0, Math.ceil(confidence * nBins) - 1));
    if (place + 1 < nBins && confidence > (place + 1) / nBins) place += 1;
    const correct = top === labels[i] ? 1 : 0;
    bins[place].count += 1;
    bins[place].confidence += confidence;
    bins[place].accuracy += correct;
    right += correct;
    sure += confidence;
    nll += logTotal + (values[top] - values[labels[i]]) / temperature;
    confidences[i] = confidence;
  }
  let ece = 0;
  for (const bin of bins) {
    if (!bin.count) continue;
    ece += Math.abs(bin.accuracy - bin.confidence) / n;
    bin.confidence /= bin.count;
    bin.accuracy /= bin.count;
  }
  return { n, accuracy: right / n, meanConfidence: sure / n, ece, nll: nll / n, bins, confidences };
};

/** `calibrationOf` at one temperature for all examples. */
export const calibration = (logits, labels, temperature) => calibrationOf(logits, labels, () => temperature);

/** Largest minus second largest entry, in double precision. */
const gapOf = (values) => {
  let [largest, second] = [-Infinity, -Infinity];
  for (const value of values) {
    if (value > largest) [second, largest] = [largest, value];
    else if (value > second) second = value;
  }
  return largest - second;
};

/** Gap of each example's logits. */
export const gaps = (logits, n) => Float64Array.from({ length: n }, (_, i) => gapOf(row(logits, i)));

/** Shares of examples behind each float32 wall, and of cross-entropy gradients that are exactly 0 or one-sided. */
export const walls = (logits, labels, temperature) => {
  const count = { beyondProbability: 0, beyondGradient: 0, zeroGradient: 0, oneSided: 0 };
  for (let i = 0; i < labels.length; i++) {
    const scaled = scaleLogits(row(logits, i), temperature);
    const gap = f32(gapOf(scaled));
    const slopes = intoGradient(scaled, labels[i]);
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
export const calibrated = (logits, labels, low, high) => {
  const loss = (exponent) => calibration(logits, labels, 10 ** exponent).nll;
  while (high - low > 0.01) {
    const third = (high - low) / 3;
    if (loss(low + third) < loss(high - third)) high -= third;
    else low += third;
  }
  return (low + high) / 2;
};

/** Largest wrong logit minus the true one, in float32: above 0 the model is fooled. */
export const margin = (logits, label) => {
  let other = -Infinity;
  for (let i = 0; i < logits.length; i++) if (i !== label && logits[i] > other) other = logits[i];
  return f32(other - logits[label]);
};

/** Cross-entropy of the plain float32 quotient in nats, as PGD computes it. */
export const crossEntropy = (logits, label, temperature) => {
  const divisor = f32(temperature);
  let largest = -Infinity;
  for (const logit of logits) largest = Math.max(largest, f32(logit / divisor));
  let total = 0;
  for (const logit of logits) total = f32(total + f32(Math.exp(f32(f32(logit / divisor) - largest))));
  return 0 - f32(f32(f32(logits[label] / divisor) - largest) - f32(Math.log(total)));
};

const dlr = (logits, label) => {
  const ordered = logits.slice().sort().reverse();
  const spread = f32(ordered[0] - ordered[2]);
  return f32(margin(logits, label) / (spread > 0 ? spread : 1));
};

export const LOSSES = { "cross-entropy": crossEntropy, margin, DLR: dlr };

/** Mean of a loss over the examples at each grid point, flat (side * side), first axis first. */
export const surface = (logits, labels, loss, temperature) => {
  const [side, , n] = logits.shape;
  return Float32Array.from({ length: side * side }, (_, point) => {
    let sum = 0;
    for (let i = 0; i < n; i++) sum += LOSSES[loss](row(logits, point * n + i), labels[i], temperature);
    return sum / n;
  });
};

/** Whether each grid point equals all its neighbours to the last bit. */
export const exactlyFlat = (values, side) =>
  Array.from(values, (value, point) => {
    const [x, y] = [Math.floor(point / side), point % side];
    return (x === 0 || values[point - side] === value) && (x === side - 1 || values[point + side] === value) &&
      (y === 0 || values[point - 1] === value) && (y === side - 1 || values[point + 1] === value);
  });

/** Index of the entry nearest to a positive value on a log axis. */
export const nearest = (values, value) => {
  let best = 0;
  const distance = (i) => Math.abs(Math.log(values[i] / value));
  for (let i = 1; i < values.length; i++) if (distance(i) < distance(best)) best = i;
  return best;
};
