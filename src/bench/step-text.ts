// What a measured training step says on the terminal, and its row of bench/history.csv.
import { appendFileSync } from 'node:fs';
import { join } from 'node:path';
import prettyBytes from 'pretty-bytes';
import { explainFileError } from '../train/atomic.js';
import type { Median } from './median.js';
import type { StepReport } from './step.js';
import { digits, textTable } from './table.js';

const bytes = (n: number) => prettyBytes(n, { binary: true });
const percent = (share: number) => `${(100 * share).toFixed(1)} %`;
const between = ({ low, high }: Median) =>
  Number.isNaN(low) ? 'too few for an interval' : `${digits(low)} to ${digits(high)}`;

/** As git shortens it, with the mark of changed files. */
const shortCommit = ({ commit }: StepReport) => (commit ?? 'unknown').replace(/^(.{7})[0-9a-f]*/, '$1');

function shapeOf({ experiment: e }: StepReport): string {
  const loss = e.loss === 'confidence-softmax' ? `full method K=${e.groups}` : e.loss;
  return `${e.model} ${e.inputSize}x${e.inputSize} B=${e.batch} N=${e.identities} D=${e.embeddingSize} ${loss} ${e.precision}`;
}

function ratesText({ ours, peers }: StepReport): string[] {
  return [
    `turl ${digits(ours.rate.median)} images/s (95 %: ${between(ours.rate)})`,
    ...peers.map((peer) =>
      'absent' in peer
        ? `${peer.name} is absent (${peer.absent})`
        : `${peer.name} ${digits(peer.rate.median)} images/s (${between(peer.rate)}); turl is ${digits(peer.ratio.median)} ` +
          `times as fast (${between(peer.ratio)})`,
    ),
  ];
}

export function stepText(report: StepReport): string {
  const { device, clocks, perStep, phases, operations, holders, experiment } = report;
  const total = phases.reduce((sum, { milliseconds }) => sum + milliseconds, 0);
  const waiting = experiment.loader
    ? []
    : ['batches lay ready: no waiting for data (--loader takes them from the images)'];
  return [
    shapeOf(report),
    `${device.description}; ${device.threads} threads; clocks ${clocks[0]}; commit ${shortCommit(report)}`,
    ...ratesText(report),
    `a step: ${digits(perStep.nativeCalls)} native calls, ${digits(perStep.kernelCalls)} calls of kernels, ` +
      (perStep.launches > 0 ? `${digits(perStep.launches)} launches on the GPU, ` : '') +
      `${digits(perStep.systemAllocations)} blocks from the system; outside native calls ${percent(perStep.typescriptShare)}; ` +
      `memory ${bytes(perStep.peakBytes)} at the peak`,
    '',
    `by phase, of profiled steps of ${digits(total)} ms${waiting.map((text) => `; ${text}`).join('')}`,
    textTable({
      head: ['phase', 'ms', 'share', 'of that outside native calls, ms'],
      rows: phases.map(({ name, milliseconds, outsideNative }) => [
        ...[name, digits(milliseconds), percent(milliseconds / total), digits(Math.max(0, outsideNative))],
      ]),
    }),
    'by operation',
    textTable({
      head: ['native call', 'calls a step', 'ms', 'share'],
      rows: operations
        .filter(({ milliseconds }) => milliseconds / total >= 0.001)
        .map(({ name, sizes, calls, milliseconds }) => [
          ...[
            `${name} ${sizes}`.trimEnd(),
            digits(calls),
            digits(milliseconds),
            percent(milliseconds / total),
          ],
        ]),
    }),
    'by holder of memory, before backward',
    textTable({
      head: ['holder', 'tensors', 'memory'],
      rows: holders.map(({ label, tensors, bytes: held }) => [label, String(tensors), bytes(held)]),
    }),
  ].join('\n');
}

const history = join(import.meta.dirname, '../../bench/history.csv');

/** The columns are those of the file's first line; none of the texts may hold a comma. */
export function historyRow(report: StepReport): string {
  const { date, device, milliseconds, ours, perStep } = report;
  const cells = [
    date.slice(0, 10),
    shortCommit(report),
    device.description.replaceAll(', ', '; '),
    `training step; ${report.experiment.name}`,
    shapeOf(report),
    milliseconds.median.toFixed(2),
    `${digits(ours.rate.median)} images/s`,
    [
      ...ratesText(report).slice(1),
      `outside native calls ${percent(perStep.typescriptShare)}`,
      `${digits(perStep.nativeCalls)} native calls a step`,
    ].join('; '),
  ];
  return `${cells.map((cell) => cell.replaceAll(',', ';')).join(',')}\n`;
}

/** Appends the row to bench/history.csv. */
export function recordStep(report: StepReport): void {
  try {
    appendFileSync(history, historyRow(report));
  } catch (error) {
    throw explainFileError(error, `write ${history}`);
  }
}
