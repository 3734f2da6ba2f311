// Scores of a whole matrix, streamed in blocks: the rate, and the most memory the process ever held, which must not grow with the matrix.
// Random embeddings of groups of length 1 and confidences from 1 to 100; each score is compared with a threshold, as protocols do, and some
// are computed again in double precision.
// usage: node bench/score-matrix.mjs [ROWS] [COLUMNS] [D] [K] [DEVICE]   Build first; 100000 100000 512 16 cpu by default.
import { Draws } from '../dist/tensor/philox.js';
import { scoreMatrix } from '../dist/evaluate/score-matrix.js';
import { scoreBetween, scoreNames } from '../dist/evaluate/scores.js';

const [device = 'cpu'] = process.argv.slice(6);
const [rows = 1e5, columns = 1e5, size = 512, groups = 16] = process.argv.slice(2, 6).map(Number);

function randomFeatures(n, seed) {
  const draws = new Draws(seed, 0, 0, 0);
  const embedding = new Float32Array(n * size);
  const each = size / groups;
  for (let begin = 0; begin < embedding.length; begin += each) {
    let square = 0;
    for (let i = begin; i < begin + each; i++) square += (embedding[i] = draws.uniform() - 0.5) ** 2;
    for (let i = begin; i < begin + each; i++) embedding[i] /= Math.sqrt(square);
  }
  const confidence = Float32Array.from({ length: n * groups }, () => 100 ** draws.uniform());
  return { embedding, confidence, size, groups };
}

const [a, b] = [randomFeatures(rows, 1), randomFeatures(columns, 2)];
console.log(`${rows} x ${columns} scores, D = ${size}, K = ${groups}, ${device}`);
for (const score of scoreNames) {
  const between = scoreBetween(a, b, score);
  const threshold = between(0, 0);
  let [above, worst] = [0, 0];
  const began = performance.now();
  scoreMatrix(
    a,
    b,
    score,
    (block) => {
      const { scores } = block;
      for (let i = 0; i < scores.length; i++) if (scores[i] > threshold) above++;
      const expected = between(block.row, block.column);
      worst = Math.max(worst, Math.abs(scores[0] - expected) / Math.max(1, Math.abs(expected)));
    },
    { device },
  );
  const seconds = (performance.now() - began) / 1000;
  console.log(
    `${score}: ${seconds.toFixed(1)} s, ${((rows * columns) / seconds / 1e6).toFixed(1)} million scores/s, ` +
      `${((2 * size * rows * columns) / seconds / 1e9).toFixed(1)} GFLOP/s of products, ${above} above the threshold, ` +
      `relative error at most ${worst.toExponential(1)}, peak ${(process.resourceUsage().maxRSS / 1024).toFixed(0)} MiB`,
  );
}
