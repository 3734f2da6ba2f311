/** What cells found, kept as one small file for each beside the tables, so that a sweep can be built up in several sittings. */
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { isDeepStrictEqual } from 'node:util';
import * as z from 'zod';
import { configFrom, type Config } from '../config/index.js';
import { UserError } from '../tensor/errors.js';
import { makeFolder, writeAtomic } from '../train/atomic.js';
import { essence, testSchema, type Cell, type LoadedSweep } from './sweep.js';

/** The figures of one version of a test's images, as shares. */
const figures = z.record(z.string(), z.number());

const cellResultSchema = z.object({
  label: z.string(),
  seed: z.number(),
  /** The experiment, then the one whose run it started from, and so on: without names, places and threads. */
  experiments: z.array(z.record(z.string(), z.unknown())),
  /** The further tests asked for. */
  asked: z.array(testSchema),
  commit: z.string().nullable(),
  machine: z.string(),
  /** Of training, over all sittings. */
  seconds: z.number(),
  /** test -> version -> figure -> value. */
  tests: z.record(z.string(), z.record(z.string(), figures)),
  /** How each test was measured. */
  protocols: z.record(z.string(), z.record(z.string(), z.unknown())),
});
export type CellResult = z.output<typeof cellResultSchema>;

const fileOf = (folder: string, { id }: Cell) => join(folder, 'cells', `${id}.json`);

/** The experiments that a cell's result depends on: its own, and those of the runs that it starts from. */
export const experimentsOf = ({ config, start }: Cell): Config[] => [
  essence(config),
  ...(start ? experimentsOf(start) : []),
];

/** Whether the experiments kept are those of the cell; a key that is newer than they are must have its default. */
function sameExperiments(kept: CellResult['experiments'], cell: Cell): boolean {
  try {
    return isDeepStrictEqual(
      kept.map((values) => configFrom(values)),
      experimentsOf(cell),
    );
  } catch (error) {
    if (error instanceof UserError) return false; // a key that is no more
    throw error;
  }
}

/** The result of a cell, or undefined when there is none or it is of another experiment. */
export function readResult(folder: string, cell: Cell, tests: LoadedSweep['tests']): CellResult | undefined {
  const file = fileOf(folder, cell);
  if (!existsSync(file)) return undefined;
  const result = parseResult(file);
  const same = isDeepStrictEqual(result.asked, tests) && sameExperiments(result.experiments, cell);
  return same ? result : undefined;
}

function parseResult(file: string): CellResult {
  const parsed = cellResultSchema.safeParse(JSON.parse(readFileSync(file, 'utf8')));
  if (parsed.success) return parsed.data;
  throw new UserError(
    `${file}: expected the result of a cell, found something else; remove it to run the cell again`,
  );
}

export function writeResult(folder: string, cell: Cell, result: CellResult): void {
  makeFolder(join(folder, 'cells'));
  writeAtomic(fileOf(folder, cell), `${JSON.stringify(result, null, 1)}\n`);
}

/** All results kept in a folder, in the order of its table of results. */
export function allResults(folder: string): CellResult[] {
  const names = readdirSync(join(folder, 'cells')).filter(
    (name) => name.endsWith('.json') && !name.startsWith('.'),
  );
  const results = names.map((name) => parseResult(join(folder, 'cells', name)));
  const table = join(folder, 'results.csv');
  const lines = existsSync(table) ? readFileSync(table, 'utf8').split('\n') : [];
  const place = ({ label }: CellResult) => lines.findIndex((text) => text.startsWith(`${label},`));
  return results.sort((a, b) => place(a) - place(b) || a.seed - b.seed);
}

/** Files of cells that the sweep has no more. */
export function strangers(folder: string, cells: readonly Cell[]): string[] {
  const known = new Set(cells.map(({ id }) => `${id}.json`));
  const path = join(folder, 'cells');
  return existsSync(path)
    ? readdirSync(path).filter((name) => name.endsWith('.json') && !name.startsWith('.') && !known.has(name))
    : [];
}
