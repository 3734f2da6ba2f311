/** A sweep from its file to its tables. */
import { spawnSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { join, resolve } from 'node:path';
import Table from 'cli-table3';
import prettyBytes from 'pretty-bytes';
import prettyMilliseconds from 'pretty-ms';
import type { Override } from '../config/index.js';
import { UserError } from '../tensor/errors.js';
import { checkWritable, makeFolder, missingFolders, removeEmpty, writeAtomic } from '../train/atomic.js';
import { Experiment } from '../train/experiment.js';
import { latestCheckpoint } from '../train/run-directory.js';
import { strangers } from './results.js';
import { changedCells, refuseChanged, refuseUntested, runCells } from './run.js';
import { slurmScript } from './slurm.js';
import { loadSweep, type Cell, type LoadedSweep } from './sweep.js';
import { readResults, writeTables } from './tables.js';

export interface AblateOptions {
  out?: string;
  runs?: string;
  jobs: number;
  cell?: string[];
  /** `local` or `slurm`. */
  launcher: string;
  dryRun?: true;
  overrides: readonly (string | Override)[];
  signal?: AbortSignal;
  onLine: (line: string) => void;
}

/** Runs what is missing and gives the table of accuracies. @throws UserError at the end, naming the cells that failed */
export async function ablate(file: string, options: AblateOptions): Promise<string> {
  const { jobs, launcher, onLine } = options;
  if (!Number.isInteger(jobs) || jobs < 1)
    throw new UserError(`--jobs: expected a whole number of at least 1, got ${jobs}`);
  if (!['local', 'slurm'].includes(launcher))
    throw new UserError(`--launcher: expected local or slurm, got ${launcher}`);
  const sweep = loadSweep(file, options.overrides);
  refuseUntested(sweep);
  const results = options.out ?? join('experiments/results', sweep.name);
  const runs = options.runs ?? join('runs', sweep.name);
  const chosen = chooseCells(sweep, options.cell);
  const known = readResults(results, sweep);
  const missing = chosen.filter(({ id }) => !known.has(id));
  const changed = changedCells(sweep.cells, missing, { runs, results });
  if (options.dryRun) {
    const plan = describe(sweep, runs, results, new Set(changed.map(({ id }) => id)));
    if (changed.length === 0) return plan;
    onLine(plan);
  }
  refuseChanged(changed);
  const folders = [results, runs].flatMap(missingFolders);
  makeFolder(results);
  checkWritable(join(results, 'table.md'));
  for (const name of strangers(results, sweep.cells))
    onLine(`${join(results, 'cells', name)} is of no cell of this sweep`);
  if (launcher === 'slurm') return submit(file, sweep, missing, runs, options);
  const tables = async () => void (await writeTables(results, sweep));
  const { failed } = await runCells(
    sweep,
    missing,
    { runs, results, jobs, onLine, ...(options.signal ? { signal: options.signal } : {}) },
    tables,
  ).finally(() => removeEmpty(folders));
  const text = await writeTables(results, sweep);
  if (failed.length > 0) {
    onLine(text);
    const [first] = failed;
    throw new UserError(
      `${failed.length} of ${missing.length} cells failed: ${failed.map(({ cell }) => cell).join(', ')} (${first?.cell}: ${first?.reason})`,
    );
  }
  if (options.signal?.aborted) onLine('stopped: the same command goes on');
  const written = existsSync(join(results, 'table.md'));
  return written ? `${text}\nThe tables are in ${results}.` : text;
}

function chooseCells(sweep: LoadedSweep, ids: readonly string[] | undefined): readonly Cell[] {
  if (!ids) return sweep.cells;
  return ids.map((id) => {
    const cell = sweep.cells.find((one) => one.id === id);
    if (!cell)
      throw new UserError(
        `--cell: expected one of ${sweep.cells.map((one) => one.id).join(', ')}, got ${id}`,
      );
    return cell;
  });
}

/** The cells with what is done, and what the rest will take. */
function describe(sweep: LoadedSweep, runs: string, results: string, changed: ReadonlySet<string>): string {
  const known = readResults(results, sweep);
  const table = new Table({ head: ['cell', 'arm', 'seed', 'state'], style: { head: [], border: [] } });
  let bytes = 0;
  const sizes = new Map<Cell['variant'], number>(); // the same for all seeds
  for (const { id, variant, seed, config } of sweep.cells) {
    const step = latestCheckpoint(join(runs, id))?.step;
    const left = step === undefined ? 'to do' : `begun, at step ${step}`;
    const state = changed.has(id) ? 'changed' : known.has(id) ? 'done' : left;
    table.push([id, variant.label, seed, state]);
    if (known.has(id)) continue;
    const size = sizes.get(variant) ?? checkpointBytes(config);
    sizes.set(variant, size);
    bytes += size * config.train.keep;
  }
  const seconds = [...known.values()].map((result) => result.seconds);
  const left = sweep.cells.length - known.size;
  const mean = seconds.reduce((a, b) => a + b, 0) / seconds.length;
  return [
    table.toString(),
    `${sweep.cells.length} cells, ${known.size} done, ${left} to do`,
    seconds.length > 0
      ? `time: about ${prettyMilliseconds(mean * left * 1000, { compact: false, secondsDecimalDigits: 0 })} of training for the rest, by those done`
      : 'time: not known before the first cell is done',
    `disk: about ${prettyBytes(bytes, { binary: true })} of checkpoints in ${runs}`,
  ].join('\n');
}

/** Bytes of a checkpoint: weights and their momentum. The prototypes of a thousand identities stand for those not counted yet. */
function checkpointBytes(config: Cell['config']): number {
  const experiment = new Experiment({ ...config, device: 'cpu' }, config.data.identities ?? 1000);
  const numbers = experiment.parameterCount;
  experiment.dispose();
  return numbers * 4 * (config.optimizer.name === 'adamw' ? 3 : 2);
}

function submit(
  file: string,
  sweep: LoadedSweep,
  cells: readonly Cell[],
  runs: string,
  { out, overrides, onLine }: AblateOptions,
): string {
  if (cells.length === 0) return 'every cell is done';
  makeFolder(runs);
  const passed = overrides.flatMap((one) =>
    typeof one === 'string' ? ['--set', one] : ['--set', `${one.path}=${JSON.stringify(one.value)}`],
  );
  const scripts = stages(cells).map((stage, i) => {
    const script = join(runs, i === 0 ? 'array.sh' : `array-${i + 1}.sh`);
    const text = slurmScript({
      name: sweep.name,
      cells: stage.map(({ id }) => id),
      command: [file, ...passed, '--runs', runs, ...(out ? ['--out', out] : [])],
      folder: resolve('.'),
      logs: resolve(runs),
    });
    writeAtomic(script, text);
    return script;
  });
  let job: string | undefined;
  for (const [i, script] of scripts.entries()) {
    const after = job === undefined ? [] : [`--dependency=afterany:${job}`];
    const { status, stdout, stderr, error } = spawnSync('sbatch', ['--parsable', ...after, script], {
      encoding: 'utf8',
    });
    if (status !== 0) {
      const reason = error
        ? 'sbatch was not found, or cannot be run'
        : stderr.trim().split('\n')[0] || 'sbatch failed without a word';
      const left = [scripts.slice(i).join(', then '), ...after].join(', with ');
      throw new UserError(`${reason}; the array job is in ${left}: submit it where Slurm takes it`);
    }
    job = stdout.trim();
    onLine(`job ${job}: ${script}`);
  }
  return `${cells.length} cells submitted as ${scripts.join(', then ')}; when they are done, turl ablate ${file} makes the tables`;
}

/** The cells that start from none of the others, those that start from them, and so on. */
function stages(cells: readonly Cell[]): Cell[][] {
  const among = new Set(cells);
  const depth = ({ start }: Cell): number => (start && among.has(start) ? depth(start) + 1 : 0);
  const found: Cell[][] = [];
  for (const cell of cells) (found[depth(cell)] ??= []).push(cell);
  return found;
}
