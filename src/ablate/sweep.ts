/**
 * A sweep: experiments that differ in what is named. Arms are taken in order, each changing what the one before it left; every arm is
 * run at every point of the grid and with every seed. One arm, one point and one seed make a cell.
 */
import { basename, dirname, resolve } from 'node:path';
import * as z from 'zod';
import {
  addFile,
  checked,
  configFrom,
  Layers,
  loadConfig,
  type Config,
  type Override,
} from '../config/index.js';
import { UserError } from '../tensor/errors.js';

const changes = z.record(z.string(), z.unknown());

const armSchema = z.strictObject({
  name: z
    .string()
    .regex(/[A-Za-z0-9]/, 'expected a letter from A to Z or a digit in it, for the names of files')
    .describe('What the arm is called in tables.'),
  purpose: z.string().default('').describe('What it adds, in a line.'),
  config: z
    .string()
    .nullable()
    .default(null)
    .describe(
      'An experiment of its own, relative to this file, instead of the base with what arms before it changed.',
    ),
  set: changes.default({}).describe('Keys of the experiment that it changes, such as loss.margin: 20.'),
  from: z
    .string()
    .nullable()
    .default(null)
    .describe('An earlier arm to change instead of the one just before.'),
  start: z
    .string()
    .nullable()
    .default(null)
    .describe(
      'An earlier arm: training starts from the run of its cell at the same point of the grid and with the same seed.',
    ),
});

/** The test of each cell that its experiment names. */
export const ownTest = 'held-out';

export const testSchema = z.strictObject({
  name: z
    .string()
    .regex(/^[A-Za-z0-9._-]+$/, 'expected letters, digits, dots, dashes and underscores')
    .refine((name) => name !== ownTest, `expected another name than that of each cell's own test`),
  set: changes.default({}).describe('Keys that the evaluation changes, such as evaluate.pairs.'),
});

export const sweepSchema = z.strictObject({
  // Folders are called by it.
  name: z.string().regex(/^(?!\.{1,2}$)[^/\\]+$/, 'expected a plain name, without slashes'),
  purpose: z.string().default('').describe('One line on what this sweep is for.'),
  base: z.string().min(1).describe('The experiment that all cells change, relative to this file.'),
  set: changes.default({}).describe('Keys that are changed for all cells.'),
  arms: z
    .array(armSchema)
    .min(1)
    .default([{ name: 'base', purpose: '', config: null, set: {}, from: null, start: null }]),
  grid: z
    .record(z.string(), z.array(z.unknown()).min(1))
    .default({})
    .describe('Keys and the values that each takes.'),
  seeds: z.array(z.int().min(0)).min(1).default([1, 2, 3]),
  tests: z.array(testSchema).default([]).describe('Further tests of each cell, beside its own.'),
});
export type Sweep = z.output<typeof sweepSchema>;

/** A row of the tables: an arm at a point of the grid. */
export interface Variant {
  /** `+CI`, or `+CI loss.margin=20`. */
  readonly label: string;
  readonly arm: string;
  /** The experiment that is changed. */
  readonly base: string;
  /** What changes it, in order. */
  readonly overrides: readonly Override[];
  /** The row that it is compared with: the arm before at the same point, or of a grid the point before. */
  readonly before: string | null;
  /** The row from whose run with the same seed training starts. */
  readonly start: string | null;
}

export interface Cell {
  readonly variant: Variant;
  readonly seed: number;
  /** A name for files. */
  readonly id: string;
  readonly config: Config;
  /** The cell from whose run training starts; `config.from` is its name. */
  readonly start: Cell | null;
}

export interface LoadedSweep extends Sweep {
  readonly file: string;
  readonly variants: readonly Variant[];
  readonly cells: readonly Cell[];
}

/** What `set` or `grid` changes. `where` gives the place of a key, for messages. */
function flat(tree: Record<string, unknown>, where: (key: string) => string): Override[] {
  return Object.entries(tree).map(([path, value]) => {
    const source = where(path);
    refuseSeed(source, path);
    return { source, path, value };
  });
}

/** The seeds of a sweep are its own: one that was set would be written over. */
function refuseSeed(source: string, path: string): void {
  if (path === 'seed')
    throw new UserError(`${source}: expected the seeds of a sweep in its list seeds, found seed set`);
}

/** Every combination of the grid's values. */
function points(grid: Sweep['grid']): Record<string, unknown>[] {
  return Object.entries(grid).reduce<Record<string, unknown>[]>(
    (all, [key, values]) => all.flatMap((point) => values.map((value) => ({ ...point, [key]: value }))),
    [{}],
  );
}

function variantsOf(file: string, layers: Layers, { arms, base, grid, set }: Sweep): Variant[] {
  const found: Variant[] = [];
  const known = new Map<string, { base: string; overrides: Override[] }>();
  let previous: string | null = null;
  for (const [i, { name, config, set: own, from, start: first }] of arms.entries()) {
    const below: string | null = from ?? previous;
    const start = { base, overrides: flat(set, (key) => layers.origin(['set', key])) };
    const inherited = below === null ? start : known.get(below);
    if (!inherited)
      throw new UserError(`${file}: arm ${name}: expected from to name an earlier arm, found ${below}`);
    if (first !== null && !known.has(first))
      throw new UserError(`${file}: arm ${name}: expected start to name an earlier arm, found ${first}`);
    if (known.has(name))
      throw new UserError(`${file}: expected arms of different names, found ${name} twice`);
    const changed = config === null ? inherited : { ...start, base: config };
    const arm = {
      base: changed.base,
      overrides: [...changed.overrides, ...flat(own, () => `${layers.origin(['arms', i])}: arm ${name}`)],
    };
    known.set(name, arm);
    let pointBefore: string | null = null;
    for (const point of points(grid)) {
      const values = Object.entries(point).map(([key, value]) => `${key}=${JSON.stringify(value)}`);
      const label = [...(arms.length > 1 || values.length === 0 ? [name] : []), ...values].join(' ');
      const samePoint = (arm: string) => [arm, ...values].join(' ');
      found.push({
        label,
        arm: name,
        base: resolve(dirname(file), arm.base),
        overrides: [...arm.overrides, ...flat(point, (key) => layers.origin(['grid', key]))],
        before: below !== null ? samePoint(below) : pointBefore,
        start: first !== null ? samePoint(first) : null,
      });
      pointBefore = label;
    }
    previous = name;
  }
  return found;
}

/** The experiment with what its result does not depend on, names, places and threads, made equal. Of a file or folder its own name counts. */
export function essence(config: Config): Config {
  const own = (path: string | null) => (path === null ? null : basename(path));
  const { data, evaluate, mined } = config;
  return {
    ...config,
    name: 'cell',
    purpose: '',
    work_dir: null,
    device: 'cpu',
    from: own(config.from),
    data: { ...data, path: own(data.path), workers: 0, prefetch: 1 },
    mined: { ...mined, labels: own(mined.labels) },
    evaluate: { ...evaluate, pairs: own(evaluate.pairs), images: own(evaluate.images), batch_size: 1 },
  };
}

/** The first that is there a second time. */
const repeated = <T>(values: readonly T[]): T | undefined =>
  values.find((value, i) => values.indexOf(value) < i);

/** Reads a sweep; each cell's experiment is checked before anything runs. `overrides` change all cells. */
export function loadSweep(file: string, overrides: readonly (string | Override)[] = []): LoadedSweep {
  const layers = new Layers();
  addFile(layers, file);
  const sweep = checked(sweepSchema, layers);
  for (const [key, values, what] of [
    ['seeds', sweep.seeds, 'different seeds'],
    ['tests', sweep.tests.map(({ name }) => name), 'tests of different names'],
  ] as const) {
    const twice = repeated(values.map(String));
    if (twice !== undefined)
      throw new UserError(`${layers.origin([key])}: ${key}: expected ${what}, found ${twice} twice`);
  }
  for (const one of overrides) {
    const [source, path] =
      typeof one === 'string' ? [`--set ${one}`, one.split('=')[0]?.trim()] : [one.source, one.path];
    refuseSeed(source, path ?? '');
  }
  const variants = variantsOf(file, layers, sweep);
  // Seed by seed, so that a sweep that is not complete compares as many arms as it can.
  const cells: Cell[] = [];
  for (const seed of sweep.seeds)
    for (const variant of variants) {
      const start = cells.find((cell) => cell.seed === seed && cell.variant.label === variant.start) ?? null;
      const config = loadConfig(variant.base, [
        ...variant.overrides,
        ...overrides,
        ...(start ? [{ source: `${file}: arm ${variant.arm}: start`, path: 'from', value: start.id }] : []),
        { source: `${file}: seeds`, path: 'seed', value: seed },
      ]);
      const label = variant.label.replace(/[^A-Za-z0-9.]+/g, '-').replace(/^[-.]+/, '');
      cells.push({ variant, seed, id: `${label}-seed${seed}`, config, start });
    }
  const twice = repeated(cells.map(({ id }) => id));
  if (twice !== undefined)
    throw new UserError(
      `${file}: expected arms and values that differ in letters from A to Z or digits, found two cells ${twice}`,
    );
  // What a test changes is checked now, not when the first cell has been trained.
  for (const [i, { name, set }] of sweep.tests.entries()) {
    const changes = flat(set, () => `${layers.origin(['tests', i])}: test ${name}`);
    for (const { source, path } of changes)
      if (!/^(evaluate|data)\./.test(path))
        throw new UserError(
          `${source}: expected keys of evaluate and data, since the network is trained by then, found ${path}`,
        );
    if (cells[0]) configFrom(cells[0].config, changes);
  }
  return { ...sweep, file, variants, cells };
}
