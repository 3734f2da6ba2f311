/**
 * How much of the identity a feature tells: a linear softmax classifier is trained on some images of each identity and tested on the
 * others. The feature stands still, so what it does not hold the classifier cannot find.
 */
import { mean } from '../autograd/ops/reduce.js';
import { linear } from '../autograd/ops/linear.js';
import { Tape } from '../autograd/tape.js';
import { crossEntropy, SoftmaxClassifier } from '../method/attributes.js';
import { Initialiser } from '../nn/initialise.js';
import { Optimizer } from '../nn/optimizer.js';
import { device as deviceOf } from '../tensor/device.js';
import { scope } from '../tensor/scope.js';
import { tensor } from '../tensor/tensor.js';

export interface ProbeResult {
  identities: number;
  /** Images that were tested. */
  images: number;
  /** Share of them whose identity the classifier found, and what guessing finds. */
  accuracy: number;
  chance: number;
}

/** Updates of the classifier, each from all images (AdamW); more change nothing that matters. */
const updates = 200;
const [rate, decay] = [0.02, 0.5];

/**
 * Of each identity the images with an even place are learned, those with an odd one tested; an identity needs two.
 * @param features [n, D]
 * @param labels [n]
 */
export function probeIdentity(
  features: Float32Array,
  width: number,
  labels: ArrayLike<number>,
  seed = 1,
): ProbeResult {
  const byIdentity = new Map<number, number[]>();
  for (let image = 0; image < labels.length; image++) {
    const identity = labels[image] as number;
    byIdentity.set(identity, [...(byIdentity.get(identity) ?? []), image]);
  }
  const groups = [...byIdentity.values()].filter((images) => images.length >= 2);
  const part = (odd: number) =>
    groups.flatMap((images, label) =>
      images.filter((_, i) => i % 2 === odd).map((image) => ({ image, label })),
    );
  const [learned, tested] = [part(0), part(1)];
  const identities = groups.length;
  if (identities === 0) return { identities, images: 0, accuracy: NaN, chance: NaN };

  const scale = standardise(features, width, learned.map(({ image }) => image)); // prettier-ignore
  const device = deviceOf('cpu');
  const rows = (images: typeof learned) =>
    tensor(Float32Array.from(images.flatMap(({ image }) => scale(image))), [images.length, width], {
      device,
    });
  const init = new Initialiser(seed, { device });
  const classifier = new SoftmaxClassifier(init, width, identities);
  const optimizer = new Optimizer(classifier.parameters(), { name: 'adamw', weightDecay: decay });
  return scope(() => {
    const x = rows(learned);
    const y = tensor(Int32Array.from(learned, ({ label }) => label), [learned.length], { device }); // prettier-ignore
    for (let step = 0; step < updates; step++)
      scope(() => {
        const tape = new Tape();
        tape.backward(tape.record(() => mean(crossEntropy(x, classifier, y))));
        optimizer.step(rate * (1 - step / updates));
      });
    const logits = linear(rows(tested), classifier.weight, classifier.bias).toArray();
    const right = tested.filter(({ label }, i) => {
      const own = logits.subarray(i * identities, (i + 1) * identities);
      return own.indexOf(Math.max(...own)) === label;
    });
    optimizer.dispose();
    classifier.dispose();
    return {
      identities,
      images: tested.length,
      accuracy: right.length / tested.length,
      chance: 1 / identities,
    };
  });
}

/** Each value of an image less its mean over `images`, by its standard deviation. */
function standardise(features: Float32Array, width: number, images: readonly number[]) {
  const row = (image: number) => features.subarray(image * width, (image + 1) * width);
  const [sums, squares] = [new Float64Array(width), new Float64Array(width)];
  for (const image of images)
    row(image).forEach((value, i) => {
      sums[i] = (sums[i] ?? 0) + value;
      squares[i] = (squares[i] ?? 0) + value * value;
    });
  const means = sums.map((s) => s / images.length);
  const scales = squares.map(
    (s, i) => 1 / Math.sqrt(Math.max(1e-12, s / images.length - (means[i] ?? 0) ** 2)),
  );
  return (image: number) =>
    Array.from(row(image), (value, i) => (value - (means[i] ?? 0)) * (scales[i] ?? 1));
}
