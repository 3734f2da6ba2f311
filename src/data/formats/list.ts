/**
 * List files: a line for each image, its path and its identity. Read are comma- or tab-separated tables, with a first line of names
 * (path or file or image; label or identity or id) or without one: the path and the label after it, also in InsightFace's .lst
 * (aligned, path, label), or the label and the path, also in MXNet's (number, labels, path), whose first label counts. Read are
 * also lines of a path, spaces and a label, in either order, as CelebA's identity_CelebA.txt; such a path may hold spaces.
 */
import { createReadStream } from 'node:fs';
import { dirname, isAbsolute, resolve } from 'node:path';
import { pipeline } from 'node:stream';
import { parse } from 'fast-csv';
import { UserError } from '../../tensor/errors.js';
import { isImageName } from '../image-file.js';
import type { Archive } from './archive.js';
import { columnOf, numberIdentities } from './identities.js';
import { filesSource } from './image-source.js';
import { linesOf } from './lines.js';

// The first ones count most.
const pathNames = ['path', 'file', 'filename', 'image', 'image_id'];
const labelNames = ['label', 'identity', 'identity_id', 'person', 'id'];

const atBlanks = (line: string): string[] => line.split(/\s+/);

/**
 * The cells of each line that is not empty, one line at a time however long the file is.
 * @param cells of a line without its outer blanks, where neither tabs nor commas separate them
 */
async function* rowsOf(file: string, cells = atBlanks): AsyncGenerator<string[], undefined> {
  const [first = ''] = linesOf(file);
  const delimiter = first.includes('\t') ? '\t' : first.includes(',') ? ',' : ' ';
  if (delimiter === ' ') {
    for (const line of linesOf(file)) if (line.trim() !== '') yield cells(line.trim());
    return;
  }
  try {
    const rows = parse<string[], string[]>({ delimiter, ignoreEmpty: true, trim: true });
    pipeline(createReadStream(file), rows, () => undefined);
    yield* rows as AsyncIterable<string[]>;
  } catch (error) {
    throw new UserError(`${file}: ${error instanceof Error ? error.message : String(error)}`);
  }
}

/** All of them. */
export async function readTable(file: string): Promise<string[][]> {
  const rows: string[][] = [];
  for await (const row of rowsOf(file)) rows.push(row);
  return rows;
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
  const rows = rowsOf(file, atLabel);
  const head = (await rows.next()).value ?? [];
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
  const files: string[] = [];
  const given: string[] = [];
  // One text for each identity, not for each image.
  const known = new Map<string, string>();
  const add = (row: string[]) => {
    const [path, cell] = [row[pathColumn], row[labelColumn]];
    if (!path || !cell)
      throw new UserError(
        `${file}: image ${files.length + 1}: expected a path and a label, found "${row.join(' ').slice(0, 80)}"`,
      );
    // MXNet writes 3.000000; any other text may be a name.
    const label = cell.replace(/^(\d+)\.0+$/, '$1');
    if (!known.has(label)) known.set(label, label);
    files.push(path);
    given.push(known.get(label) ?? label);
  };
  if (!named) add(head);
  for await (const row of rows) add(row);
  if (files.length === 0) throw new UserError(`${file}: expected images, found none`);
  const root = images ?? dirname(file);
  const absolute = files.some((path) => isAbsolute(path));
  return {
    kind: 'list',
    path: file,
    source: absolute
      ? filesSource(
          '',
          files.map((path) => resolve(root, path)),
        )
      : filesSource(root, files),
    ...numberIdentities(given),
    notes: [],
  };
}
