/**
 * Five points for each photograph from a file, where no detector is wanted: a line of the path and x, y of the eyes (image left
 * first), the nose's tip and the mouth's corners, in pixels, comma-, tab- or space-separated, with a line of names or without; and
 * CelebA's list_landmarks_celeba.txt, whose first line is a count.
 */
import { basename } from 'node:path';
import { readTable } from '../data/formats/list.js';
import { UserError } from '../tensor/errors.js';
import type { Point } from './similarity.js';

/** Points by path; `of` also finds a file by its name alone. */
export interface Landmarks {
  of(path: string): readonly Point[] | undefined;
}

export function readLandmarks(file: string): Landmarks {
  const rows = [...readTable(file)];
  const points = new Map<string, readonly Point[]>();
  rows.forEach((row, line) => {
    const [path = '', ...cells] = row;
    const values = cells.map(Number);
    if (
      cells.length >= 10 &&
      values.slice(0, 10).every((value, i) => cells[i] !== '' && Number.isFinite(value))
    ) {
      points.set(
        path,
        [0, 2, 4, 6, 8].map((i): Point => [values[i] ?? 0, values[i + 1] ?? 0]),
      );
      return;
    }
    // A count, and a line of names, may come first.
    if (line < 2 && points.size === 0) return;
    throw new UserError(
      `${file}, row ${line + 1}: expected a path and ten numbers (x, y of five points), found "${row.join(' ').slice(0, 60)}"`,
    );
  });
  if (points.size === 0)
    throw new UserError(
      `${file}: expected lines of a path and ten numbers (x, y of five points), found none`,
    );
  return { of: (path) => points.get(path) ?? points.get(basename(path)) };
}
