/**
 * List files: a line for each image, its path and its identity. Read are comma- or tab-separated tables, with a first line of names
 * (path or file or image; label or identity or id) or without one: the path and the label after it, also in InsightFace's .lst
 * (aligned, path, label), or the label and the path, also in MXNet's (number, labels, path), whose first label counts. Read are
 * also lines of a path, spaces and a label, in either order, as CelebA's identity_CelebA.txt; such a path may hold spaces.
 */
import { readFileSync } from 'node:fs';
import { dirname, isAbsolute, resolve } from 'node:path';
import { parseString } from 'fast-csv';
import { UserError } from '../../tensor/errors.js';
import { explaining } from '../../train/atomic.js';
import { isImageName } from '../image-file.js';
import type { Archive } from './archive.js';
import { columnOf, numberIdentities } from './identities.js';

// The first ones count most.
const pathNames = ['path', 'file', 'filename', 'image', 'image_id'];
const labelNames = ['label', 'identity', 'identity_id', 'person', 'id'];

const atBlanks = (line: string): string[] => line.split(/\s+/);

/**
 * The cells of each line that is not empty.
 * @param cells of a line without its outer blanks, where neither tabs nor commas separate them
 */
export async function readTable(file: string, cells = atBlanks): Promise<string[][]> {
  const text = explaining(`read ${file}`, () => readFileSync(file, 'utf8'));
  const first = text.slice(0, Math.max(0, text.indexOf('\n'))) || text;
  const delimiter = first.includes('\t') ? '\t' : first.includes(',') ? ',' : ' ';
  if (delimiter === ' ')
    return text
      .split(/\r?\n/)
      .map((line) => line.trim())
      .filter((line) => line !== '')
      .map(cells);
  return new Promise((resolve, reject) => {
    const rows: string[][] = [];
    parseString<string[], string[]>(text, { delimiter, ignoreEmpty: true, trim: true })
      .on('error', (error: Error) => reject(new UserError(`${file}: ${error.message}`)))
      .on('data', (row: string[]) => rows.push(row))
      .on('end', () => resolve(rows));
  });
}

/** A path and a label, or a label and a path, after a number or without one; other lines at every blank. */
function atLabel(line: string): string[] {
  const labelLast = /^(.+?)\s+(\S+)$/.exec(line);
  if (labelLast && isImageName(labelLast[1] ?? '')) return labelLast.slice(1);
  const labelFirst = /^(?:(\d+)\s+(?=\d+(?:\.0+)?\s))?(\S+)\s+(.+)$/.exec(line);
  if (labelFirst && isImageName(line)) return labelFirst.slice(1).filter((cell) => cell !== undefined);
  return atBlanks(line);
}

/** @param images the folder that paths start from; by default the list's */
export async function openList(file: string, images?: string | null): Promise<Archive> {
  const rows = await readTable(file, atLabel);
  const [head = []] = rows;
  const named = !head.some(isImageName);
  const pathColumn = named ? columnOf(head, pathNames) : head.findIndex(isImageName);
  const last = pathColumn === head.length - 1;
  // Before a path at the end may be MXNet's number and several labels.
  const unnamedLabel = last ? Math.min(1, pathColumn - 1) : pathColumn + 1;
  const labelColumn = named ? columnOf(head, labelNames) : unnamedLabel;
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
    // MXNet writes 3.000000; any other text may be a name.
    given.push(label.replace(/^(\d+)\.0+$/, '$1'));
  });
  const root = images ?? dirname(file);
  const absolute = files.some((path) => isAbsolute(path));
  return {
    kind: 'list',
    path: file,
    source: absolute
      ? { kind: 'files', root: '', files: files.map((path) => resolve(root, path)) }
      : { kind: 'files', root, files },
    ...numberIdentities(given),
    notes: [],
  };
}
