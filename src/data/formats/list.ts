/**
 * List files: a line for each image, its path and its identity. Read are comma- or tab-separated tables, with a first line of names
 * (path or file or image; label or identity or id) or without one (path first), MXNet's .lst (number, label, path), and lines of a
 * path, spaces and a label, as CelebA's identity_CelebA.txt.
 */
import { readFileSync } from 'node:fs';
import { dirname, extname, isAbsolute } from 'node:path';
import { parseString } from 'fast-csv';
import { UserError } from '../../tensor/errors.js';
import { imageExtensions } from '../image-file.js';
import type { Archive } from './archive.js';
import { byName } from './folder.js';

const pathNames = ['path', 'file', 'filename', 'image', 'image_id'];
const labelNames = ['label', 'identity', 'identity_id', 'id', 'person'];

/** The cells of each line that is not empty. */
export async function readTable(file: string): Promise<string[][]> {
  let text: string;
  try {
    text = readFileSync(file, 'utf8');
  } catch {
    throw new UserError(`${file} cannot be read`);
  }
  const first = text.slice(0, Math.max(0, text.indexOf('\n'))) || text;
  const delimiter = first.includes('\t') ? '\t' : first.includes(',') ? ',' : ' ';
  if (delimiter === ' ')
    return text
      .split(/\r?\n/)
      .filter((line) => line.trim() !== '')
      .map((line) => line.trim().split(/\s+/));
  return new Promise((resolve, reject) => {
    const rows: string[][] = [];
    parseString<string[], string[]>(text, { delimiter, ignoreEmpty: true, trim: true })
      .on('error', (error: Error) => reject(new UserError(`${file}: ${error.message}`)))
      .on('data', (row: string[]) => rows.push(row))
      .on('end', () => resolve(rows));
  });
}

const isImage = (cell: string | undefined) =>
  cell !== undefined && imageExtensions.includes(extname(cell).toLowerCase());

/** @param images the folder that paths start from; by default the list's */
export async function openList(file: string, images?: string | null): Promise<Archive> {
  const rows = await readTable(file);
  const [head = []] = rows;
  const named = !head.some(isImage);
  const lower = head.map((cell) => cell.toLowerCase());
  let pathColumn = lower.findIndex((cell) => named && pathNames.includes(cell));
  let labelColumn = lower.findIndex((cell) => named && labelNames.includes(cell));
  if (!named) {
    pathColumn = head.findIndex(isImage);
    labelColumn = pathColumn === 0 ? 1 : pathColumn - 1;
  }
  if (pathColumn < 0 || labelColumn < 0)
    throw new UserError(
      `${file}:1: expected the columns path and label, or a path and a label, found "${head.join(' ').slice(0, 80)}"`,
    );
  const body = named ? rows.slice(1) : rows;
  if (body.length === 0) throw new UserError(`${file}: expected images, found none`);
  const files: string[] = [];
  const given: string[] = [];
  body.forEach((row, i) => {
    const [path, label] = [row[pathColumn], row[labelColumn]];
    if (!path || !label)
      throw new UserError(
        `${file}: image ${i + 1}: expected a path and a label, found "${row.join(' ').slice(0, 80)}"`,
      );
    files.push(path);
    given.push(String(Number(label)) === 'NaN' ? label : String(Number(label)));
  });
  const numeric = given.every((label) => !Number.isNaN(Number(label)));
  const names = [...new Set(given)].sort(numeric ? (a, b) => Number(a) - Number(b) : byName);
  const number = new Map(names.map((name, i) => [name, i]));
  const absolute = files.some((path) => isAbsolute(path));
  return {
    kind: 'list',
    path: file,
    source: { kind: 'files', root: absolute ? '' : (images ?? dirname(file)), files },
    labels: Int32Array.from(given, (label) => number.get(label) ?? 0),
    names,
    notes: [],
  };
}
