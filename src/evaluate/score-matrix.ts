/**
 * Scores of every row of one set of embeddings against every row of another, a block at a time: the whole matrix is never in
 * memory, and what a block costs is spread over the device's threads.
 */
import { groupNormalize } from '../autograd/ops/group-normalize.js';
import { matmul } from '../autograd/ops/matmul.js';
import { pairScores } from '../autograd/ops/pair-scores.js';
import { affine } from '../autograd/ops/unary.js';
import type { Device, DeviceName } from '../tensor/device.js';
import { UserError } from '../tensor/errors.js';
import { scope } from '../tensor/scope.js';
import { tensor, type Tensor } from '../tensor/tensor.js';
import { confidenceOf, countOf, type Features, type ScoreName } from './scores.js';

/** Scores [rows, columns], row-major, of the rows from `row` and the columns from `column` on; valid until the next block. */
export interface ScoreBlock {
  readonly row: number;
  readonly column: number;
  readonly rows: number;
  readonly columns: number;
  readonly scores: Float32Array;
}

export interface ScoreMatrixOptions {
  /** Rows and columns of a block. */
  block?: number;
  device?: Device | DeviceName;
}

/**
 * Calls `onBlock` for all blocks, those of the first rows first. Scores are float32: two scores that a score of doubles tells apart
 * may be equal here.
 * @throws UserError when the sets differ in D or K, or the score needs confidences and there are none
 */
export function scoreMatrix(
  rows: Features,
  columns: Features,
  score: ScoreName,
  onBlock: (block: ScoreBlock) => void,
  { block = 2048, device = 'cpu' }: ScoreMatrixOptions = {},
): void {
  const { size, groups } = rows;
  if (columns.size !== size || columns.groups !== groups)
    throw new UserError(
      `scores: expected embeddings of ${size} in ${groups} groups on both sides, got ${columns.size} in ${columns.groups}`,
    );
  /** Rows `begin` to `end` as the scores take them: normalised, and for Eq. 16 with their variances. */
  const part = (set: Features, begin: number, end: number): { x: Tensor; variance?: Tensor } => {
    const n = end - begin;
    const x = tensor(set.embedding.subarray(begin * size, end * size), [n, size], { device });
    if (score === 'uncertainty') {
      const s = confidenceOf(set).subarray(begin * groups, end * groups);
      const variance = tensor(
        Float32Array.from(s, (one) => 1 / one),
        [n, groups],
        { device },
      );
      return { x: groupNormalize(x, groups), variance };
    }
    return { x: groupNormalize(x, score === 'cosine' ? 1 : groups) };
  };
  /** Of the rows only: a product of whole rows is the sum over groups of which the score is the mean. */
  const scaled = (x: Tensor) => (score === 'group-cosine' ? affine(x, 1 / groups) : x);
  const [m, n] = [countOf(rows), countOf(columns)];
  for (let row = 0; row < m; row += block) {
    const below = Math.min(m, row + block);
    scope(() => {
      const { x, variance } = part(rows, row, below);
      const left = scaled(x);
      for (let column = 0; column < n; column += block) {
        const right = Math.min(n, column + block);
        const scores = scope(() => {
          const b = part(columns, column, right);
          const y =
            variance && b.variance
              ? pairScores(left, b.x, variance, b.variance)
              : matmul(left, b.x, { transposeB: true });
          return { values: y.toArray() as Float32Array };
        }).values;
        onBlock({ row, column, rows: below - row, columns: right - column, scores });
      }
    });
  }
}
