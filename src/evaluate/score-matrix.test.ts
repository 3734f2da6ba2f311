import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { assertClose, devices, randomValues } from '../testing.js';
import { scoreMatrix } from './score-matrix.js';
import { scoreBetween, scoreNames, type Features } from './scores.js';

const test = suite('score matrix');

/** Groups of length 1, confidences from 0.05 to 20. */
function features(n: number, size: number, groups: number, seed: number): Features {
  const embedding = Float32Array.from(randomValues(n * size, seed));
  const each = size / groups;
  for (let begin = 0; begin < embedding.length; begin += each) {
    const part = embedding.subarray(begin, begin + each);
    const norm = Math.hypot(...part);
    part.forEach((x, i) => (part[i] = x / norm));
  }
  const confidence = Float32Array.from(randomValues(n * groups, seed + 1), (u) => 20 ** u);
  return { embedding, confidence, size, groups };
}

for (const device of devices)
  test(`${device.name}: every score of every block once, as in double precision`, () => {
    const [a, b] = [features(11, 24, 4, 1), features(7, 24, 4, 3)];
    for (const score of scoreNames) {
      const found = new Float64Array(77).fill(NaN);
      scoreMatrix(
        a,
        b,
        score,
        ({ row, column, rows, columns, scores }) => {
          for (let i = 0; i < rows; i++)
            for (let j = 0; j < columns; j++) {
              const at = (row + i) * 7 + column + j;
              assert.ok(Number.isNaN(found[at]), 'scored twice');
              found[at] = scores[i * columns + j] ?? NaN;
            }
        },
        { block: 4, device },
      );
      const between = scoreBetween(a, b, score);
      const expected = Array.from(found, (_, at) => between(Math.floor(at / 7), at % 7));
      // Sums of 24 float32; for Eq. 16 divided by variances of 0.1 and more, on scores of some tens.
      assertClose(found, expected, score === 'uncertainty' ? 1e-4 : 1e-6, score);
    }
  });

test('for single images the two cosines are the same; without confidences there is no Eq. 16', () => {
  const a = features(5, 12, 3, 5);
  const [whole, grouped] = [scoreBetween(a, a, 'cosine'), scoreBetween(a, a, 'group-cosine')];
  for (let i = 0; i < 5; i++) assertClose([whole(0, i)], [grouped(0, i)], 1e-6);
  const bare = { ...a, confidence: undefined };
  assert.throws(() => scoreMatrix(bare, bare, 'uncertainty', () => undefined), 'needs confidences');
});

test('sets of other sizes are refused, sets without rows have no scores', () => {
  const a = features(3, 12, 3, 6);
  let blocks = 0;
  const count = () => void blocks++;
  assert.throws(
    () => scoreMatrix(a, features(3, 12, 4, 7), 'cosine', count),
    /expected embeddings of 12 in 3 groups on both sides, got 12 in 4/,
  );
  scoreMatrix(a, features(0, 12, 3, 7), 'cosine', count);
  scoreMatrix(features(0, 12, 3, 7), a, 'cosine', count);
  assert.is(blocks, 0);
});

test.run();
