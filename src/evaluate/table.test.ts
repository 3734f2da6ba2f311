import { parseString } from 'fast-csv';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { verification } from './metrics.js';
import { evaluationCsv, evaluationJson, evaluationTable, type Evaluation } from './table.js';

const test = suite('evaluation tables');

const genuine = [true, true, true, true, false, false, false, false];
const row = (version: string, scores: number[]) => ({
  version,
  verification: verification({ scores, genuine }, [0, 0, 1, 1, 0, 0, 1, 1], [1e-3, 1e-2]),
  intervals: null,
  reject: null,
});
const evaluation: Evaluation = {
  protocol: {
    data: 'generated faces, "held out"',
    pairs: 'drawn with seed 1, half genuine',
    identities: 4,
    folds: 2,
    alignment: 'as generated',
    crop: 'centre 56 of 60 pixels',
    colour: 'RGB',
    flip: false,
    score: 'cosine',
    fusion: 'none',
    failures: 1,
  },
  rows: [
    row('clean', [0.9, 0.8, 0.7, 0.6, 0.35, 0.3, 0.2, 0.1]),
    row('blur=9', [0.9, 0.2, 0.7, 0.6, 0.5, 0.3, 0.65, 0.1]),
  ],
  leftOut: ['yaw=50'],
  failed: ['a/a_0007'],
  correlation: 0.5712,
};

function parse(text: string): Promise<Record<string, string>[]> {
  return new Promise((resolve, reject) => {
    const rows: Record<string, string>[] = [];
    parseString<Record<string, string>, Record<string, string>>(text, { headers: true })
      .on('data', (line: Record<string, string>) => rows.push(line))
      .on('error', reject)
      .on('end', () => resolve(rows));
  });
}

test('table: one line for each version, percentages, what was tested', () => {
  const text = evaluationTable(evaluation);
  assert.match(text, /test +│ +accuracy % +│ +TAR % @ FAR 0\.001 +│ +TAR % @ FAR 0\.01 +│ +AUC % +│ +EER %/);
  assert.match(text, /clean +│ +100\.00 ± 0\.00 +│ +100\.00 +│ +100\.00 +│ +100\.00 +│ +0\.00/);
  assert.match(text, /blur=9 +│ +75\.00 ± 0\.00/);
  assert.match(text, '4 genuine and 4 impostor pairs of 4 identities');
  assert.match(text, 'correlation between sub-embeddings: 0.571');
  assert.not.match(text, '\u001b');
});

test('intervals stand below their figures, rejection in a line', () => {
  const interval = { low: 0.5, high: 0.75 };
  const [clean] = evaluation.rows;
  if (!clean) throw new Error('no row');
  const text = evaluationTable({
    ...evaluation,
    rows: [
      {
        ...clean,
        intervals: {
          unit: 'identities',
          resamples: 7,
          level: 0.9,
          accuracy: interval,
          auc: interval,
          equalErrorRate: interval,
          tarAtFar: [interval, interval],
        },
        reject: {
          far: 0.01,
          threshold: 0,
          rejected: Array.from({ length: 51 }, (_, i) => i / 100),
          falseReject: Array.from({ length: 51 }, (_, i) => 0.5 - i / 100),
          falseAccept: new Array<number>(51).fill(0.01),
          relativeArea: 0.5,
        },
      },
    ],
  });
  assert.match(text, /50\.0 to 75\.0 │ +50\.0 to 75\.0/);
  assert.match(text, '90 % confidence interval, 7 resamples of identities');
  assert.match(text, '30.00 instead of 50.00 % of the genuine ones');
});

test('CSV: reads back, quotes and all', async () => {
  const lines = await parse(await evaluationCsv(evaluation));
  assert.is(lines.length, 2);
  assert.equal(
    ['test', 'genuine_pairs', 'accuracy', 'tar_at_far_0.001', 'correlation', 'protocol_data'].map(
      (key) => lines[1]![key],
    ),
    ['blur=9', '4', '0.75', '0.5', '0.5712', 'generated faces, "held out"'],
  );
});

test('JSON: everything, with what each figure means', () => {
  const read = JSON.parse(evaluationJson(evaluation)) as Evaluation & {
    protocol: { definitions: { auc: string } };
  };
  assert.equal(read.rows[1]!.verification.accuracy.folds, evaluation.rows[1]!.verification.accuracy.folds);
  assert.is(read.protocol.crop, 'centre 56 of 60 pixels');
  assert.match(read.protocol.definitions.auc, 'genuine pair scores higher');
});

test('no correlation, no rows', () => {
  assert.match(evaluationTable({ ...evaluation, rows: [], correlation: null }), 'not defined');
});

test('versions left out, with what makes the meshes that they lack', () => {
  const protocol = { ...evaluation.protocol, data: 'faces' };
  assert.match(
    evaluationTable({ ...evaluation, protocol }),
    'left out: yaw=50, since too few of these images have a mesh by which to turn the head; turl data fit faces makes them',
  );
});

test('the first images that could not be used are named; JSON has all', () => {
  assert.match(evaluationTable(evaluation), 'because an image could not be used: 1 (a/a_0007)\n');
  const failed = ['a', 'b', 'c', 'd', 'e', 'f', 'g'];
  assert.match(evaluationTable({ ...evaluation, failed }), 'used: 1 (a, b, c, d, e and 2 more)\n');
  assert.equal((JSON.parse(evaluationJson({ ...evaluation, failed })) as Evaluation).failed, failed);
});

test.run();
