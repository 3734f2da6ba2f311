/**
 * The protocol of Celebrities in Frontal-Profile (Sengupta et al., WACV 2016): PROTOCOL/Pair_list_F.txt and Pair_list_P.txt number the
 * frontal and profile images (`number path`, the path relative to the protocol's folder); PROTOCOL/Split/FP (or FF) has a folder for
 * each fold with same.txt and diff.txt, lines `i,j`: in FP image i is frontal and j a profile, in FF both are frontal.
 */
import { existsSync, readdirSync, readFileSync, statSync } from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { UserError } from '../../tensor/errors.js';
import { collectPairs } from '../pairs.js';
import type { Archive } from './archive.js';
import { byName, numberIdentities } from './identities.js';
import { filesSource } from './image-source.js';

/** Whether `path` is such a split. */
export const isCfpSplit = (path: string): boolean =>
  existsSync(join(dirname(dirname(path)), 'Pair_list_F.txt')) && statSync(path).isDirectory();

function lines(file: string): string[] {
  try {
    return readFileSync(file, 'utf8').split(/\r?\n/);
  } catch {
    throw new UserError(`${file}: expected a file of the CFP protocol, found none`);
  }
}

/** Image paths by number. */
function readNumbered(file: string): Map<number, string> {
  const found = new Map<number, string>();
  lines(file).forEach((line, i) => {
    if (line.trim() === '') return;
    const [, number, path] = /^\s*(\d+)\s+(\S.*?)\s*$/.exec(line) ?? [];
    if (number === undefined || path === undefined)
      throw new UserError(`${file}:${i + 1}: expected a number and a path, found "${line.slice(0, 60)}"`);
    found.set(Number(number), path);
  });
  return found;
}

/**
 * The people on the images: the name of the folder that `frontal` and `profile` are in, where that agrees with every pair; nobody otherwise.
 */
function peopleOf(
  files: readonly string[],
  pairs: readonly (readonly [number, number, boolean, number])[],
): Pick<Archive, 'labels' | 'names'> {
  const folders = files.map((file) => dirname(dirname(file)));
  const agree = pairs.every(([first, second, genuine]) => (folders[first] === folders[second]) === genuine);
  if (!agree) return { labels: new Int32Array(files.length).fill(-1), names: [] };
  const { labels, names } = numberIdentities(folders);
  return { labels, names: names.map((folder) => basename(folder)) };
}

/** Opens a split, PROTOCOL/Split/FP or FF, as a verification set. */
export function openCfp(split: string): Archive {
  const protocol = dirname(dirname(split));
  const kind = basename(split);
  if (kind !== 'FP' && kind !== 'FF')
    throw new UserError(`${split}: expected the split FP or FF, found ${kind}`);
  const frontal = readNumbered(join(protocol, 'Pair_list_F.txt'));
  const other = kind === 'FP' ? readNumbered(join(protocol, 'Pair_list_P.txt')) : frontal;
  const files: string[] = [];
  const places = new Map<string, number>();
  const place = (path: string): number => {
    const known = places.get(path);
    if (known !== undefined) return known;
    places.set(path, files.length);
    return files.push(path) - 1;
  };
  const rows: [number, number, boolean, number][] = [];
  const folds = readdirSync(split).filter((name) => statSync(join(split, name)).isDirectory());
  folds.sort(byName).forEach((name, fold) => {
    for (const genuine of [true, false]) {
      const file = join(split, name, genuine ? 'same.txt' : 'diff.txt');
      lines(file).forEach((line, i) => {
        if (line.trim() === '') return;
        const [, a, b] = /^\s*(\d+)\s*,\s*(\d+)\s*$/.exec(line) ?? [];
        const paths = [frontal.get(Number(a)), other.get(Number(b))];
        const [first, second] = paths;
        if (first === undefined || second === undefined)
          throw new UserError(
            `${file}:${i + 1}: expected two numbers of the lists of images, found "${line.slice(0, 60)}"`,
          );
        rows.push([place(first), place(second), genuine, fold]);
      });
    }
  });
  if (rows.length === 0) throw new UserError(`${split}: expected folds with pairs, found none`);
  return {
    kind: 'list',
    path: split,
    source: filesSource(protocol, files),
    ...peopleOf(files, rows),
    pairs: collectPairs(rows),
    notes: [],
  };
}
