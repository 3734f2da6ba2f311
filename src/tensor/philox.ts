// Philox4x32-10 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC11): 128 random bits from a 64-bit key and a
// 128-bit counter, without any state. Here key = seed and counter = (block, purpose, epoch, sample), so a draw depends on what it
// is for and on nothing else: not on threads, workers, devices or order. native/philox.h has the same functions for kernels.

/** What a draw is for. Two draws with different purposes are independent; a number, once given, keeps its meaning. */
export const purposes = {
  initialise: 1,
  dropout: 2,
  masks: 3,
  identitySplit: 10,
  shuffle: 11,
  augment: 12,
  pairs: 13,
  degrade: 14,
  balancedIdentity: 15,
  balancedImage: 16,
  resample: 17,
  bootstrap: 18,
  faceIdentity: 20,
  faceImage: 21,
  facePose: 22,
  faceTexture: 23,
  toyFigure: 30,
  test: 99,
} as const;

const high = (a: number, b: number): number => {
  // Upper 32 bits of the product of two 32-bit numbers, by 16-bit halves.
  const a0 = a & 0xffff;
  const a1 = a >>> 16;
  const b0 = b & 0xffff;
  const b1 = b >>> 16;
  const middle = a1 * b0 + ((a0 * b0) >>> 16);
  return (a1 * b1 + Math.floor(middle / 65536) + (((a0 * b1 + (middle & 0xffff)) / 65536) | 0)) >>> 0;
};

/** Writes the four words of a counter under a key to `out`. All arguments are taken modulo 2^32. */
export function philox(
  out: Uint32Array,
  key0: number,
  key1: number,
  c0: number,
  c1: number,
  c2: number,
  c3: number,
): void {
  for (let round = 0; round < 10; round++) {
    const n0 = high(c2 >>> 0, 0xcd9e8d57) ^ c1 ^ key0;
    const n2 = high(c0 >>> 0, 0xd2511f53) ^ c3 ^ key1;
    c1 = Math.imul(c2, 0xcd9e8d57);
    c3 = Math.imul(c0, 0xd2511f53);
    c0 = n0;
    c2 = n2;
    key0 = (key0 + 0x9e3779b9) | 0;
    key1 = (key1 + 0xbb67ae85) | 0;
  }
  out[0] = c0;
  out[1] = c1;
  out[2] = c2;
  out[3] = c3;
}

const seedLow = (seed: number): number => seed >>> 0;
const seedHigh = (seed: number): number => Math.floor(seed / 2 ** 32) >>> 0;
const unit = 2 ** -24;
const block = new Uint32Array(4);

/** The index-th 32-bit word for (seed, purpose, epoch, sample): four per block. The seed is an integer below 2^53. */
export function randomWord(
  seed: number,
  purpose: number,
  epoch: number,
  sample: number,
  index: number,
): number {
  philox(block, seedLow(seed), seedHigh(seed), index >>> 2, purpose, epoch, sample);
  return block[index & 3] ?? 0;
}

/** The index-th uniform draw in [0, 1): 24 bits, so it is exact in float32. */
export const randomUniform = (
  seed: number,
  purpose: number,
  epoch: number,
  sample: number,
  index: number,
): number => (randomWord(seed, purpose, epoch, sample, index) >>> 8) * unit;

/** The index-th integer in [0, n). */
export const randomInt = (
  seed: number,
  purpose: number,
  epoch: number,
  sample: number,
  index: number,
  n: number,
): number => high(randomWord(seed, purpose, epoch, sample, index), n);

/** The index-th standard normal draw (Box and Muller) from words 2 index and 2 index + 1. */
export function randomNormal(
  seed: number,
  purpose: number,
  epoch: number,
  sample: number,
  index: number,
): number {
  philox(block, seedLow(seed), seedHigh(seed), index >>> 1, purpose, epoch, sample);
  const first = (index & 1) * 2;
  return boxMuller(block[first] ?? 0, block[first + 1] ?? 0);
}

const boxMuller = (a: number, b: number): number =>
  Math.sqrt(-2 * Math.log(((a >>> 8) + 1) * unit)) * Math.cos(2 * Math.PI * (b >>> 8) * unit);

/** Draws one after another for (seed, purpose, epoch, sample): the same words as the functions above, in order. */
export class Draws {
  readonly #words = new Uint32Array(4);
  #next = 0;
  constructor(
    readonly seed: number,
    readonly purpose: number,
    readonly epoch: number,
    readonly sample: number,
  ) {}

  /** The next 32-bit word. */
  word(): number {
    const i = this.#next++;
    if ((i & 3) === 0)
      philox(
        this.#words,
        seedLow(this.seed),
        seedHigh(this.seed),
        i >>> 2,
        this.purpose,
        this.epoch,
        this.sample,
      );
    return this.#words[i & 3] ?? 0;
  }
  /** Uniform in [low, high). */
  uniform(low = 0, high = 1): number {
    return low + (high - low) * (this.word() >>> 8) * unit;
  }
  /** An integer in [0, n). */
  int(n: number): number {
    return high(this.word(), n);
  }
  /** Normal with this mean and standard deviation; takes two words. */
  normal(mean = 0, deviation = 1): number {
    const a = this.word();
    return mean + deviation * boxMuller(a, this.word());
  }
  /** True with this probability. */
  chance(probability: number): boolean {
    return this.uniform() < probability;
  }
}

/** Item `position` of a random order of [0, n) keyed by (seed, purpose, epoch), without storing the order: a Feistel network on
 *  the next even power of two, walked until it lands below n. */
export function permuted(position: number, n: number, seed: number, purpose: number, epoch: number): number {
  let half = 1;
  while (2 ** (2 * half) < n) half++;
  const mask = 2 ** half - 1;
  let x = position;
  do {
    let left = Math.floor(x / (mask + 1));
    let right = x & mask;
    for (let round = 0; round < 6; round++) {
      philox(block, seedLow(seed), seedHigh(seed), round, purpose, epoch, right);
      const next = left ^ ((block[0] ?? 0) & mask);
      left = right;
      right = next;
    }
    x = left * (mask + 1) + right;
  } while (x >= n);
  return x;
}
