import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { UserError } from '../tensor/errors.js';
import { subEmbeddingCorrelation } from './correlation.js';

const test = suite('correlation of sub-embeddings');

/** Unit vectors in the plane at these angles (radians), [n, 2]. */
const plane = (angles: number[]) => angles.flatMap((a) => [Math.cos(a), Math.sin(a)]);
/** Interleaves sub-embeddings given one by one, each [n, size], to [n, K, size]. */
function interleave(groups: number[][], size: number): Float64Array {
  const images = groups[0]!.length / size;
  return Float64Array.from(
    Array.from({ length: images }, (_, i) => groups.flatMap((g) => g.slice(i * size, (i + 1) * size))).flat(),
  );
}

test('a copy of a sub-embedding has correlation 1 with it, also when scaled', () => {
  const one = plane([0, 0.1, 0.5, 2, 2.4, 2.5]);
  const { matrix, mean, images } = subEmbeddingCorrelation(
    interleave([one, one.map((v) => 3 * v)], 2),
    [0, 0, 0, 7, 7, 7],
    2,
    2,
  );
  assert.is(images, 6);
  // Six distances: rounding of some 1e-16, divided by their spread of about 0.05.
  for (const entry of matrix) assert.ok(Math.abs(entry - 1) < 1e-12);
  assert.ok(Math.abs(mean! - 1) < 1e-12);
});

test('against the formula written out', () => {
  const [n, groups, size] = [12, 3, 4];
  const values = Float32Array.from({ length: n * groups * size }, (_, i) => Math.sin(i * i * 0.7 + i));
  const labels = [0, 0, 0, 1, 1, 2, 2, 2, 2, 5, 9, 9];
  const result = subEmbeddingCorrelation(values, labels, groups, size);
  const unit = (v: number[]) => v.map((x) => x / Math.sqrt(v.reduce((s, y) => s + y * y, 0)));
  const part = (i: number, k: number) =>
    unit([...values.subarray((i * groups + k) * size, (i * groups + k + 1) * size)]);
  const kept = labels.map((_, i) => i).filter((i) => labels[i] !== 5);
  const distances = [0, 1, 2].map((k) =>
    kept.map((i) => {
      const same = kept.filter((j) => labels[j] === labels[i]).map((j) => part(j, k));
      const centre = unit(same[0]!.map((_, at) => same.reduce((s, v) => s + v[at]!, 0)));
      return 1 - part(i, k).reduce((s, v, at) => s + v * centre[at]!, 0);
    }),
  );
  const average = (v: number[]) => v.reduce((a, b) => a + b) / v.length;
  const centred = distances.map((v) => v.map((x) => x - average(v)));
  const dot = (a: number[], b: number[]) => a.reduce((s, x, i) => s + x * b[i]!, 0);
  const r = (k: number, l: number) =>
    dot(centred[k]!, centred[l]!) / Math.sqrt(dot(centred[k]!, centred[k]!) * dot(centred[l]!, centred[l]!));
  assert.is(result.images, 11);
  for (let k = 0; k < 3; k++)
    for (let l = 0; l < 3; l++) assert.ok(Math.abs(result.matrix[3 * k + l]! - r(k, l)) < 1e-12);
  assert.ok(Math.abs(result.mean! - average([r(0, 1), r(0, 2), r(1, 2)].map(Math.abs))) < 1e-12);
});

test('not defined: one sub-embedding, or one that is the same for all images', () => {
  const one = plane([0, 0.1, 0.5, 2]);
  assert.is(subEmbeddingCorrelation(Float64Array.from(one), [0, 0, 0, 0], 1, 2).mean, null);
  const constant = interleave([one, plane([0.3, 0.3, 0.3, 0.3])], 2);
  const { mean, matrix } = subEmbeddingCorrelation(constant, [0, 0, 0, 0], 2, 2);
  assert.is(mean, null);
  assert.ok(Number.isNaN(matrix[1]) && Math.abs(matrix[0]! - 1) < 1e-12);
});

test('not defined: no identity with two images; images without an identity are left out', () => {
  const pair = interleave([plane([0, 0.1, 0.5, 2]), plane([1, 0.3, 0.8, 0.2])], 2);
  for (const labels of [
    [0, 1, 2, 3],
    [-1, -1, -1, -1],
  ]) {
    const { mean, images } = subEmbeddingCorrelation(pair, labels, 2, 2);
    assert.is(mean, null);
    assert.is(images, 0);
  }
  const known = subEmbeddingCorrelation(pair.slice(0, 12), [0, 0, 0], 2, 2);
  assert.equal(subEmbeddingCorrelation(pair, [0, 0, 0, -1], 2, 2), known);
});

test('errors: shape, NaN', () => {
  const raises = (run: () => unknown, message: RegExp) =>
    assert.throws(run, (error: unknown) => error instanceof UserError && message.test(error.message));
  raises(() => subEmbeddingCorrelation(new Float32Array(7), [0, 0], 2, 2), /\[2, 2, 2\], got 7 numbers/);
  raises(() => subEmbeddingCorrelation(Float32Array.of(1, 1, 1, NaN), [0, 0], 1, 2), /image 1 has a value/);
});

test.run();
