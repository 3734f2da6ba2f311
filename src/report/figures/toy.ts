/**
 * The toy figure of C-Softmax (§3.1, Eq. 5): identities on the circle, D = 2, N = 8. Each has clean samples close around its
 * own direction and poor ones that have drifted off to one side and scatter widely. Embeddings stay where they are; what is learned,
 * on turl's own autograd, are the prototypes [N, 2] and, in one of two runs, the confidences. As a network reads them from an image,
 * not from its label, samples of one quality q (clean, poor; told, not read) share theirs; one for each sample would learn the poor ones by heart.
 *
 *     plain        s_i = scale for every sample: softmax of cosines
 *     confidence   s_i = softplus(θ_q), learned, with λ s_i² (Eq. 10); everything else is the same, its start s_i = scale too
 *
 * Both have margin 0, so that the confidence is their only difference; as one constant scale may suit plain softmax better than
 * another, it is run at several. An illustration, not evidence: with 4 identities, whose clean samples are told apart with ease,
 * plain softmax of a small scale ended as near or nearer. No picture is made here, only its points and curves.
 */
import { add, affine, gatherRows, mean, softplus, square, Tape } from '../../autograd/index.js';
import { confidenceSoftmax } from '../../method/identification.js';
import { Optimizer } from '../../nn/optimizer.js';
import { UserError } from '../../tensor/errors.js';
import { Draws, purposes } from '../../tensor/philox.js';
import { scope } from '../../tensor/scope.js';
import { full, tensor, type Tensor } from '../../tensor/tensor.js';

export interface ToyOptions {
  seed: number;
  /** Clean samples of each identity, and as many poor ones. */
  samples?: number;
  steps?: number;
  /** s of every sample at the start, and for ever in the plain run. */
  scale?: number;
  /** λ of the regulariser on the confidences. */
  regularisation?: number;
}

/** Angles are degrees in [0, 360), anticlockwise from the x axis. */
export interface ToySample {
  readonly identity: number;
  readonly angle: number;
  readonly clean: boolean;
  /** s_i at the end of the confidence run. */
  readonly confidence: number;
}

export interface ToyRun {
  readonly name: 'plain' | 'confidence';
  /** The angle of each identity’s prototype at the end, degrees. */
  readonly prototypes: readonly number[];
  /** After each step (the first is the start): degrees between prototype and mean clean direction, mean over the identities. */
  readonly distance: readonly number[];
}

export interface Toy {
  readonly samples: readonly ToySample[];
  /** The direction of the sum of each identity’s clean samples, degrees. */
  readonly cleanDirections: readonly number[];
  readonly runs: readonly [plain: ToyRun, confidence: ToyRun];
  /** Where plain softmax ends (the last `distance`) at each of several constant scales. */
  readonly plainByScale: readonly { readonly scale: number; readonly distance: number }[];
}

const identities = 8;
/** Degrees: spread of the clean samples, drift and spread of the poor ones. */
const [cleanSpread, drift, poorSpread] = [6, 20, 40];
const learningRate = 0.02;
const scales = [2, 4, 8, 16, 32];

const degrees = (x: number, y: number) => ((Math.atan2(y, x) * 180) / Math.PI + 360) % 360;
const unit = (angle: number) => [Math.cos((angle * Math.PI) / 180), Math.sin((angle * Math.PI) / 180)];
/** The angle between two directions, degrees in [0, 180]. */
export const between = (a: number, b: number) => Math.abs(((((a - b) % 360) + 540) % 360) - 180);
const average = (values: readonly number[]) => values.reduce((sum, x) => sum + x, 0) / values.length;

type Placed = Omit<ToySample, 'confidence'>;

function place(seed: number, count: number): Placed[] {
  const draws = new Draws(seed, purposes.toyFigure, 0, 0);
  return Array.from({ length: identities }, (_, identity) =>
    [true, false].flatMap((clean) =>
      Array.from({ length: count }, () => {
        const own = 90 + (360 / identities) * identity;
        const off = clean ? draws.normal(0, cleanSpread) : draws.normal(drift, poorSpread);
        return { identity, clean, angle: (own + off + 360) % 360 };
      }),
    ),
  ).flat();
}

/** The angles of vectors [n, 2]. */
function anglesOf(vectors: Tensor): number[] {
  const xy = vectors.toArray();
  return Array.from({ length: vectors.dim(0) }, (_, i) => degrees(xy[2 * i] ?? NaN, xy[2 * i + 1] ?? NaN));
}

/**
 * Seven optimisations of a few hundred steps each, about a second; the same options give the same result.
 * @throws UserError when a number of samples or steps is not a whole number from 1, or the scale not above 0
 */
export function toy({
  seed,
  samples: count = 24,
  steps = 300,
  scale = 8,
  regularisation = 1e-3,
}: ToyOptions): Toy {
  for (const [name, value] of Object.entries({ samples: count, steps }))
    if (!Number.isInteger(value) || value < 1)
      throw new UserError(`toy figure: expected ${name} to be a whole number from 1, got ${value}`);
  if (!(scale > 0)) throw new UserError(`toy figure: expected a scale above 0, got ${scale}`);
  const placed = place(seed, count);
  const cleanDirections = Array.from({ length: identities }, (_, identity) => {
    const clean = placed
      .filter((one) => one.clean && one.identity === identity)
      .map(({ angle }) => unit(angle));
    return degrees(average(clean.map(([x]) => x ?? NaN)), average(clean.map(([, y]) => y ?? NaN)));
  });
  const distance = (angles: readonly number[]) =>
    average(angles.map((angle, identity) => between(angle, cleanDirections[identity] ?? NaN)));

  const optimise = (name: ToyRun['name'], scale: number) => {
    const learned = name === 'confidence';
    const f = tensor(
      placed.flatMap(({ angle }) => unit(angle)),
      [placed.length, 2],
    );
    const labels = tensor(Int32Array.from(placed, ({ identity }) => identity));
    // Half a place on: each starts between two identities.
    const start = Array.from({ length: identities }, (_, i) =>
      unit(90 + (360 / identities) * (i + 0.5)),
    ).flat();
    const prototypes = tensor(start, [identities, 2]);
    const quality = tensor(Int32Array.from(placed, ({ clean }) => Number(!clean)));
    // softplus(θ) = scale, without overflow.
    const theta = full([2, 1], scale + Math.log(-Math.expm1(-scale)));
    prototypes.requiresGrad = true;
    theta.requiresGrad = learned;
    const parameters = new Map([['prototypes', prototypes], ...(learned ? [['theta', theta] as const] : [])]);
    const optimizer = new Optimizer(parameters, { name: 'adamw' });
    const path = [distance(anglesOf(prototypes))];
    for (let step = 0; step < steps; step++) {
      scope(() => {
        const tape = new Tape();
        const loss = tape.record(() => {
          const s = gatherRows(softplus(theta), quality);
          const { loss } = confidenceSoftmax(f, s, prototypes, labels, 0);
          return add(mean(loss), affine(mean(square(s)), regularisation));
        });
        tape.backward(loss);
      });
      optimizer.step(learningRate);
      path.push(distance(anglesOf(prototypes)));
    }
    const confidence = scope(() => Array.from(softplus(theta).toArray()));
    const run: ToyRun = { name, prototypes: anglesOf(prototypes), distance: path };
    optimizer.dispose();
    for (const one of [f, labels, quality, prototypes, theta]) one.dispose();
    return { run, confidence };
  };
  const [plain, confident] = [optimise('plain', scale), optimise('confidence', scale)];
  return {
    samples: placed.map((one) => ({ ...one, confidence: confident.confidence[Number(!one.clean)] ?? NaN })),
    cleanDirections,
    runs: [plain.run, confident.run],
    plainByScale: scales.map((each) => ({
      scale: each,
      distance: optimise('plain', each).run.distance.at(-1) ?? NaN,
    })),
  };
}
