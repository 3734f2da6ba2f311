/**
 * Verification pairs in folds: drawn from the images of a dataset, or read from a file in the format of LFW's pairs.txt.
 */
import { readFileSync } from 'node:fs';
import { UserError } from '../tensor/errors.js';
import { Draws, purposes } from '../tensor/philox.js';

/** Pairs of images by index; entry i of each array is pair i. */
export interface Pairs {
  readonly first: Int32Array;
  readonly second: Int32Array;
  readonly genuine: boolean[];
  /** The fold of each pair, from 0. */
  readonly fold: Int32Array;
}

/** Pairs from rows of first, second, genuine, fold. */
export function collectPairs(
  rows: readonly [first: number, second: number, genuine: boolean, fold: number][],
): Pairs {
  return {
    first: Int32Array.from(rows, (row) => row[0]),
    second: Int32Array.from(rows, (row) => row[1]),
    genuine: rows.map((row) => row[2]),
    fold: Int32Array.from(rows, (row) => row[3]),
  };
}

/** Indices of the images of each identity. */
function byIdentity(labels: ArrayLike<number>): number[][] {
  const groups = new Map<number, number[]>();
  Array.from(labels, (label, i) => {
    const group = groups.get(label);
    if (group) group.push(i);
    else groups.set(label, [i]);
  });
  return [...groups.values()];
}

/**
 * Draws `count` pairs, half genuine and half impostor, without repeating a pair. The identities are dealt to the folds, and both
 * images of a pair come from one fold, so that no identity is in two folds.
 * @throws UserError when there are too few identities or images.
 */
export function drawPairs(labels: ArrayLike<number>, count: number, folds: number, seed: number): Pairs {
  const draws = new Draws(seed, purposes.pairs, 0, 0);
  const identities = byIdentity(labels);
  for (let i = identities.length - 1; i > 0; i--) {
    const j = draws.int(i + 1);
    [identities[i], identities[j]] = [identities[j] as number[], identities[i] as number[]];
  }
  if (identities.length < 2 * folds)
    throw new UserError(
      `evaluate.folds: expected at least ${2 * folds} held-out identities (data.held_out_identities) for ${folds} folds, found ${identities.length}`,
    );
  const rows: [number, number, boolean, number][] = [];
  for (let fold = 0; fold < folds; fold++) {
    const own = identities.filter((_, i) => i % folds === fold);
    const several = own.filter((images) => images.length > 1);
    const images = own.reduce((sum, group) => sum + group.length, 0);
    const possible = several.reduce((sum, { length: n }) => sum + (n * (n - 1)) / 2, 0);
    const impossible = (images * (images - 1)) / 2 - possible;
    const half = Math.floor(count / 2);
    const wanted = Math.floor(half / folds) + (fold < half % folds ? 1 : 0);
    if (possible < wanted || impossible < wanted)
      throw new UserError(
        `pairs: expected ${wanted} genuine and as many impostor pairs in each of ${folds} folds, but fold ${fold} has ` +
          `${own.length} identities and ${images} images, enough for ${possible} and ${impossible}; ` +
          'lower evaluate.pair_count or raise data.held_out_identities',
      );
    const seen = new Set<string>();
    const pick = <T>(list: readonly T[]) => list[draws.int(list.length)] as T;
    for (const genuine of [true, false])
      for (let made = 0; made < wanted;) {
        const group = pick(genuine ? several : own);
        const other = genuine ? group : pick(own);
        const [a, b] = [pick(group), pick(other)];
        const key = a < b ? `${a} ${b}` : `${b} ${a}`;
        if (a === b || (!genuine && group === other) || seen.has(key)) continue;
        seen.add(key);
        rows.push([a, b, genuine, fold]);
        made++;
      }
  }
  return collectPairs(rows);
}

/**
 * Reads a pairs file: the first line has the number of folds and n, the pairs of each kind in a fold; then come, fold by fold, n
 * lines `NAME i j` (genuine) and n lines `NAME i OTHER j` (impostor). Image j of NAME is NAME/NAME_000j.*.
 * @param find the index of an image, or undefined when it cannot be used: such pairs are left out and counted.
 * @throws UserError with file and line for anything else.
 */
export function readPairs(
  file: string,
  find: (name: string, number: number) => number | undefined,
): { pairs: Pairs; failures: number } {
  let text: string;
  try {
    text = readFileSync(file, 'utf8');
  } catch {
    throw new UserError(`pairs file ${file} cannot be read`);
  }
  const lines = text.split(/\r?\n/);
  const [folds = NaN, perFold = NaN] = (lines[0] ?? '').trim().split(/\s+/).map(Number);
  if (!Number.isInteger(folds) || !Number.isInteger(perFold) || folds < 1 || perFold < 1)
    throw new UserError(
      `${file}:1: expected the number of folds and of pairs, such as "10 300", found "${lines[0] ?? ''}"`,
    );
  const rows: [number, number, boolean, number][] = [];
  let failures = 0;
  let count = 0;
  lines.slice(1).forEach((line, i) => {
    if (line.trim() === '') return;
    const words = line.trim().split(/\s+/);
    const genuine = words.length === 3;
    const numbers = [words[1], words[genuine ? 2 : 3]].map(Number);
    if ((!genuine && words.length !== 4) || !numbers.every((n) => Number.isInteger(n) && n > 0))
      throw new UserError(`${file}:${i + 2}: expected "NAME i j" or "NAME i OTHER j", found "${line}"`);
    const fold = Math.floor(count++ / (2 * perFold));
    const a = find(words[0] as string, numbers[0] as number);
    const b = find((genuine ? words[0] : words[2]) as string, numbers[1] as number);
    if (a === undefined || b === undefined) failures++;
    else rows.push([a, b, genuine, fold]);
  });
  if (count !== 2 * folds * perFold)
    throw new UserError(
      `${file}: expected ${2 * folds * perFold} pairs as the first line says, found ${count}`,
    );
  if (rows.length === 0)
    throw new UserError(`${file}: none of its ${count} pairs could be found among the images`);
  return { pairs: collectPairs(rows), failures };
}

/** The pairs both of whose images are among `items`, by their places there; the others are counted. */
export function selectPairs(pairs: Pairs, items: Int32Array): { pairs: Pairs; failures: number } {
  const places = new Map(Array.from(items, (item, place) => [item, place]));
  const rows: [number, number, boolean, number][] = [];
  pairs.genuine.forEach((genuine, i) => {
    const [a, b] = [places.get(pairs.first[i] ?? -1), places.get(pairs.second[i] ?? -1)];
    if (a !== undefined && b !== undefined) rows.push([a, b, genuine, pairs.fold[i] ?? 0]);
  });
  if (rows.length === 0) throw new UserError('expected pairs of usable images, found none');
  return { pairs: collectPairs(rows), failures: pairs.genuine.length - rows.length };
}
