// An evaluation as a table for the terminal, as CSV and as JSON. Each row is one version of the test images (clean, blurred, ...);
// the protocol says how all figures were measured and goes along with them.
import Table from 'cli-table3';
import { writeToString } from 'fast-csv';
import type { Interval, Intervals } from './bootstrap.js';
import { definitions, type Verification } from './metrics.js';
import { qualityDefinition, type RejectCurve } from './reject.js';

/** How the figures were measured, in words where there is no number. */
export interface Protocol {
  /** What was tested: the data, and the pairs file or the rule by which pairs were drawn. */
  data: string;
  pairs: string;
  identities: number;
  folds: number;
  alignment: string;
  /** Pixels of the network's input, and how they were cut from the image. */
  crop: string;
  colour: string;
  /** Whether the mirrored image was used too. */
  flip: boolean;
  /** How a pair's score comes from two embeddings, and one embedding from several images. */
  score: string;
  fusion: string;
  /** Pairs left out because an image could not be used. */
  failures: number;
}

export interface EvaluationRow {
  /** `clean`, or the degradation: `blur=9`. */
  version: string;
  verification: Verification;
  /** Confidence intervals by the bootstrap; null where none were asked for. */
  intervals: Intervals | null;
  /** Error against rejection by confidence; null where the experiment has no confidences. */
  reject: RejectCurve | null;
}

export interface Evaluation {
  protocol: Protocol;
  rows: EvaluationRow[];
  /** Versions asked for that these images cannot be brought to: photographs without a fitted mesh cannot be turned. */
  leftOut: string[];
  /** The images that could not be used. */
  failed: readonly string[];
  /** Mean absolute correlation between sub-embeddings of the clean images; null where it is not defined. */
  correlation: number | null;
}

const percent = (share: number) => (100 * share).toFixed(2);
const range = (interval: Interval | undefined) =>
  interval ? `\n${(100 * interval.low).toFixed(1)} to ${(100 * interval.high).toFixed(1)}` : '';

export function evaluationTable(evaluation: Evaluation): string {
  const { protocol, rows, correlation } = evaluation;
  const far = rows[0]?.verification.tarAtFar.map((point) => point.far) ?? [];
  const table = new Table({
    head: ['test', 'accuracy %', ...far.map((f) => `TAR % @ FAR ${f}`), 'AUC %', 'EER %'],
    colAligns: ['left', ...new Array<'right'>(far.length + 3).fill('right')],
    // No colours of its own: the table also goes to files and pipes.
    style: { head: [], border: [] },
  });
  for (const { version, verification: v, intervals } of rows)
    table.push([
      version,
      `${percent(v.accuracy.mean)} ± ${percent(v.accuracy.std)}${range(intervals?.accuracy)}`,
      ...v.tarAtFar.map((point, k) => percent(point.tar) + range(intervals?.tarAtFar[k])),
      percent(v.auc) + range(intervals?.auc),
      percent(v.equalErrorRate) + range(intervals?.equalErrorRate),
    ]);
  const first = rows[0]?.verification;
  const pairs = first
    ? `${first.genuinePairs} genuine and ${first.impostorPairs} impostor pairs`
    : 'no pairs';
  const fewer = rows
    .filter(
      ({ verification: v }) =>
        first && v.genuinePairs + v.impostorPairs < first.genuinePairs + first.impostorPairs,
    )
    .map(
      ({ version, verification: v }) =>
        `${version}: on the ${v.genuinePairs} genuine and ${v.impostorPairs} impostor pairs of faces that can be turned`,
    );
  return [
    table.toString(),
    `${pairs}${protocol.identities > 0 ? ` of ${protocol.identities} identities` : ''} (${protocol.data}; ${protocol.pairs}), ${protocol.folds} folds`,
    `score: ${protocol.score}; pairs left out because an image could not be used: ${protocol.failures}${firstOf(evaluation.failed)}`,
    `mean absolute correlation between sub-embeddings: ${correlation === null ? 'not defined' : correlation.toFixed(3)}`,
    ...intervalNote(rows[0]?.intervals),
    ...(first ? rareNote(first.tarAtFar.map(({ far }) => far), first.impostorPairs) : []), // prettier-ignore
    ...rejectNote(rows[0]),
    ...fewer,
    ...leftOutNote(evaluation),
  ].join('\n');
}

/** Which versions are missing, and what would help. */
export const leftOutNote = ({ leftOut, protocol }: Evaluation): string[] =>
  leftOut.length > 0
    ? [
        `left out: ${leftOut.join(', ')}, since too few of these images have a mesh by which to turn the head; turl data fit ${protocol.data} makes them`,
      ]
    : [];

/** Some of the names, in brackets. */
function firstOf(names: readonly string[], most = 5): string {
  if (names.length === 0) return '';
  const rest = names.length > most ? ` and ${names.length - most} more` : '';
  return ` (${names.slice(0, most).join(', ')}${rest})`;
}

const intervalNote = (intervals: Intervals | null | undefined) =>
  intervals
    ? [
        `±: standard deviation over folds; below: ${100 * intervals.level} % confidence interval, ${intervals.resamples} resamples of ${intervals.unit}`,
      ]
    : [];

/** 1e-6, 0.001, 0.1. */
export const rateName = (rate: number) => (rate < 1e-3 ? rate.toExponential() : String(rate));

/** Which of the rates asked for so many impostor pairs cannot show but by no false accept at all. */
export function rareNote(rates: readonly number[], impostors: number): string[] {
  const rare = rates.filter((rate) => rate * impostors < 1);
  return rare.length > 0
    ? [
        `FAR ${rare.map(rateName).join(', ')}: too few impostor pairs to reach it; no false accept is allowed there`,
      ]
    : [];
}

/** What the rejection of the least confident fifth does. */
function rejectNote(row: EvaluationRow | undefined): string[] {
  const reject = row?.reject;
  const [all, fewer] = [reject?.falseReject[0], reject?.falseReject[20]];
  if (!reject || all === null || all === undefined || fewer === null || fewer === undefined) return [];
  return [
    `confidence as quality: without the least sure fifth of the pairs, ${percent(fewer)} instead of ${percent(all)} % of the genuine ones are refused at the threshold of FAR ${reject.far}`,
  ];
}

/** One line for each version, the protocol repeated in it, so that lines of several files can be put together. */
export function evaluationCsv({ protocol, rows, correlation }: Evaluation): Promise<string> {
  const bounds = (name: string, interval: Interval | undefined): Record<string, number> =>
    interval ? { [`${name}_low`]: interval.low, [`${name}_high`]: interval.high } : {};
  const lines = rows.map(({ version, verification: v, intervals }) => ({
    test: version,
    genuine_pairs: v.genuinePairs,
    impostor_pairs: v.impostorPairs,
    accuracy: v.accuracy.mean,
    ...bounds('accuracy', intervals?.accuracy),
    accuracy_std: v.accuracy.std,
    ...Object.fromEntries(
      v.tarAtFar.flatMap((point, k): [string, number][] => [
        [`tar_at_far_${point.far}`, point.tar],
        ...Object.entries(bounds(`tar_at_far_${point.far}`, intervals?.tarAtFar[k])),
      ]),
    ),
    auc: v.auc,
    ...bounds('auc', intervals?.auc),
    equal_error_rate: v.equalErrorRate,
    ...bounds('equal_error_rate', intervals?.equalErrorRate),
    correlation: correlation ?? '',
    ...Object.fromEntries(Object.entries(protocol).map(([key, value]) => [`protocol_${key}`, value])),
  }));
  return writeToString(lines, { headers: true, includeEndRowDelimiter: true });
}

/** Everything, each fold and threshold included, with what each figure means; null as a threshold: no finite one, all pairs alike. */
export function evaluationJson({ protocol, ...figures }: Evaluation): string {
  return `${JSON.stringify({ protocol: { ...protocol, definitions: { ...definitions, quality: qualityDefinition } }, ...figures }, null, 2)}\n`;
}
