/** A protocol's results as tables for the terminal, as CSV with a line for each figure, and as JSON. */
import Table from 'cli-table3';
import { writeToString } from 'fast-csv';
import type { Interval } from '../bootstrap.js';
import { rareNote, rateName } from '../table.js';
import type { Mean, TaskResult } from './measure.js';
import type { ProtocolEvaluation } from './run.js';

/** A figure from 0 to 1. */
export interface Figure {
  readonly name: string;
  readonly value: number;
  /** Over splits, galleries or folds. */
  readonly std: number | null;
  readonly interval: Interval | null;
}

/** The figures of a task, in the order of its table. */
export function figuresOf(task: TaskResult): Figure[] {
  const figure = (name: string, { mean, std }: Mean, interval?: Interval | null): Figure => ({
    name,
    value: mean,
    std,
    interval: interval ?? null,
  });
  const single = (value: number): Mean => ({ mean: value, std: null });
  switch (task.kind) {
    case 'verification':
      return task.tarAtFar.map((point, k) =>
        figure(`TAR @ FAR ${rateName(point.far)}`, point, task.intervals?.[k]),
      );
    case 'folds': {
      const { verification: v, intervals } = task;
      return [
        figure('accuracy', v.accuracy, intervals?.accuracy),
        ...v.tarAtFar.map((point, k) =>
          figure(`TAR @ FAR ${rateName(point.far)}`, single(point.tar), intervals?.tarAtFar[k]),
        ),
        figure('AUC', single(v.auc), intervals?.auc),
        figure('EER', single(v.equalErrorRate), intervals?.equalErrorRate),
      ];
    }
    case 'identification': {
      const { intervals, meanAveragePrecision: map } = task;
      return [
        ...task.ranks.map((point, k) => figure(`rank ${point.rank}`, point, intervals?.ranks[k])),
        ...(map ? [figure('mAP', map, intervals?.meanAveragePrecision)] : []),
        ...task.tpirAtFpir.map((point, k) => figure(`TPIR @ FPIR ${point.fpir}`, point, intervals?.open[k])),
      ];
    }
    case 'distractors':
      return [
        ...task.rankOne.map(({ distractors, rate, interval }) =>
          figure(`rank 1 of ${distractors}`, single(rate), interval),
        ),
        ...task.verification.tarAtFar.map((point, k) =>
          figure(`TAR @ FAR ${rateName(point.limit)}`, single(point.rate), task.intervals?.[k]),
        ),
      ];
  }
}

const count = (n: number, what: string) => `${n} ${what}${n === 1 ? '' : 's'}`;

/** How much was compared. */
function extent(task: TaskResult): string {
  switch (task.kind) {
    case 'verification':
      return task.parts
        .map(({ name, genuine, impostor }) => `${name}: ${genuine} genuine and ${impostor} impostor pairs`)
        .join('; ');
    case 'folds': {
      const { genuinePairs, impostorPairs, accuracy } = task.verification;
      return `${genuinePairs} genuine and ${impostorPairs} impostor pairs in ${accuracy.folds.length} folds`;
    }
    case 'identification':
      return task.parts
        .map(
          ({ name, gallery, mated, nonMated }) =>
            `${name}: ${count(mated, 'probe')} with a mate, ${nonMated} without, among ${gallery}`,
        )
        .join('; ');
    case 'distractors':
      return `${count(task.searches, 'search')}; ${task.verification.genuine} genuine and ${task.verification.impostor} impostor pairs`.replace(
        'searchs',
        'searches',
      );
  }
}

/** Which rates its comparisons are too few for. */
function tooRare(task: TaskResult): string[] {
  const parts =
    task.kind === 'verification' ? task.parts : task.kind === 'distractors' ? [task.verification] : [];
  const fewest = Math.min(...parts.map(({ impostor }) => impostor));
  return rareNote(
    (parts[0]?.tarAtFar ?? []).map(({ limit }) => limit),
    fewest,
  );
}

const percent = (share: number) => (100 * share).toFixed(2);

function cell({ value, std, interval }: Figure): string {
  const range = interval ? `\n${(100 * interval.low).toFixed(1)} to ${(100 * interval.high).toFixed(1)}` : '';
  return percent(value) + (std === null ? '' : ` ± ${percent(std)}`) + range;
}

const shown = 3;

export function protocolTable({ protocol, failed, versions }: ProtocolEvaluation): string {
  const lines: string[] = [];
  const tasks = versions[0]?.tasks ?? [];
  tasks.forEach((task, k) => {
    const figures = figuresOf(task);
    const table = new Table({
      head: [
        `${protocol.protocol} ${task.name}, %`,
        ...figures.map(({ name }) => name.replace(' @ ', '\n@ ')),
      ],
      colAligns: ['left', ...figures.map(() => 'right' as const)],
      style: { head: [], border: [] },
    });
    for (const { version, tasks: measured } of versions) {
      const own = measured[k];
      if (own) table.push([version, ...figuresOf(own).map(cell)]);
    }
    lines.push(table.toString(), extent(task), ...tooRare(task));
  });
  lines.push(
    `set: ${protocol.set}, ${count(protocol.images, 'image')}, ${count(protocol.templates, 'template')}`,
    `rule: ${protocol.rule}`,
    `alignment: ${protocol.alignment}; crop: ${protocol.crop}; colour: ${protocol.colour}; flip: ${protocol.flip}`,
    `score: ${protocol.score}; fusion: ${protocol.fusion}`,
    `ties: ${protocol.ties}; intervals below: ${protocol.intervals}; ±: over splits, galleries or folds`,
    `failures to enrol: ${count(failed.images.length, 'image')}, ${count(failed.templates.length, 'template')}`,
  );
  for (const { file, reason } of failed.images.slice(0, shown)) lines.push(`  ${file}: ${reason}`);
  if (failed.images.length > shown)
    lines.push(`  and ${failed.images.length - shown} more images (--json names all)`);
  if (failed.templates.length > 0)
    lines.push(
      `  templates without images: ${failed.templates.slice(0, 10).join(', ')}${failed.templates.length > 10 ? ', ...' : ''}`,
    );
  return lines.join('\n');
}

/** A line for each figure, the protocol repeated in it, so that lines of several files can be put together. */
export function protocolCsv({ protocol, failed, versions }: ProtocolEvaluation): Promise<string> {
  const how = Object.entries(protocol).flatMap(([key, text]) =>
    typeof text === 'object' || key === 'protocol' ? [] : [[`protocol_${key}`, text] as const],
  );
  const lines = versions.flatMap(({ version, tasks }) =>
    tasks.flatMap((task) =>
      figuresOf(task).map(({ name, value, std, interval }) => ({
        protocol: protocol.protocol,
        test: version,
        task: task.name,
        figure: name,
        value,
        std: std ?? '',
        low: interval?.low ?? '',
        high: interval?.high ?? '',
        failed_images: failed.images.length,
        failed_templates: failed.templates.length,
        ...Object.fromEntries(how),
      })),
    ),
  );
  return writeToString(lines, { headers: true, includeEndRowDelimiter: true });
}

/** Everything: each split, threshold and failure. */
export function protocolJson(evaluation: ProtocolEvaluation): string {
  return `${JSON.stringify(evaluation, null, 2)}\n`;
}
