/** What cells found, kept as one small file for each beside the tables, so that a sweep can be built up in several sittings. */
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { isDeepStrictEqual } from 'node:util';
import * as z from 'zod';
import { configFrom, firstDifference, type Config, type Difference } from '../config/index.js';
import { UserError } from '../tensor/errors.js';
import { explaining, makeFolder, writeAtomic } from '../train/atomic.js';
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

/** The experiments kept; keys that are newer than they are have their defaults. */
function keptExperiments({ experiments }: CellResult): CellResult['experiments'] {
  try {
    return experiments.map((values) => configFrom(values));
  } catch (error) {
    if (error instanceof UserError) return experiments; // a key that is no more
    throw error;
  }
}

/** How the cell differs from the experiment that its result is of, if it has one. */
export function changedResult(folder: string, cell: Cell): Difference | undefined {
  const place = fileOf(folder, cell);
  if (!existsSync(place)) return undefined;
  const kept = keptExperiments(parseResult(place));
  const now = experimentsOf(cell);
  for (const [i, values] of kept.entries()) {
    const found = firstDifference(values, now[i] ?? {}, place);
    if (found) return found;
  }
  return undefined;
}

/** The result of a cell, or undefined when there is none or it is of another experiment. */
export function readResult(folder: string, cell: Cell, tests: LoadedSweep['tests']): CellResult | undefined {
  const file = fileOf(folder, cell);
  if (!existsSync(file)) return undefined;
  const result = parseResult(file);
  const same =
    isDeepStrictEqual(result.asked, tests) && isDeepStrictEqual(keptExperiments(result), experimentsOf(cell));
  return same ? result : undefined;
}

export const read = (file: string): string => explaining(`read ${file}`, () => readFileSync(file, 'utf8'));

/** Undefined where the file is no JSON. */
function readJson(file: string): unknown {
  const text = read(file);
  try {
    return JSON.parse(text);
  } catch (error) {
    if (error instanceof SyntaxError) return undefined;
    throw error;
  }
}

function parseResult(file: string): CellResult {
  const parsed = cellResultSchema.safeParse(readJson(file));
  if (parsed.success) return parsed.data;
  throw new UserError(
    `${file}: expected the result of a cell, found something else; remove it to run the cell again`,
  );
}

export function writeResult(folder: string, cell: Cell, result: CellResult): void {
  makeFolder(join(folder, 'cells'));
  writeAtomic(fileOf(folder, cell), `${JSON.stringify(result, null, 1)}\n`);
}

function cellFiles(folder: string): string[] {
  const path = join(folder, 'cells');
  return explaining(`read ${path}`, () => readdirSync(path)).filter(
    (name) => name.endsWith('.json') && !name.startsWith('.'),
  );
}

/**
 * All results kept in a folder, in the order of its table of results. Those that the table does not have are apart: of arms or seeds that
 * were, or newer than it.
 */
export function allResults(folder: string): { cells: CellResult[]; apart: CellResult[] } {
  const results = cellFiles(folder).map((name) => parseResult(join(folder, 'cells', name)));
  const table = join(folder, 'results.csv');
  if (!existsSync(table)) return { cells: results, apart: [] };
  // The first column is the label, in quotes where it needs them, the second the seed.
  const rows = read(table)
    .split('\n')
    .map((text) => {
      const [, quoted, plain, seed] = /^(?:"((?:[^"]|"")*)"|([^,]*)),(\d+)/.exec(text) ?? [];
      return JSON.stringify([quoted?.replaceAll('""', '"') ?? plain, Number(seed)]);
    });
  const place = ({ label, seed }: CellResult) => rows.indexOf(JSON.stringify([label, seed]));
  return {
    cells: results.filter((one) => place(one) >= 0).sort((a, b) => place(a) - place(b)),
    apart: results.filter((one) => place(one) < 0),
  };
}

/** Files of cells that the sweep has no more. */
export function strangers(folder: string, cells: readonly Cell[]): string[] {
  const known = new Set(cells.map(({ id }) => `${id}.json`));
  return existsSync(join(folder, 'cells')) ? cellFiles(folder).filter((name) => !known.has(name)) : [];
}
