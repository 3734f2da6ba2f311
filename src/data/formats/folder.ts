/** A folder of images, <identity>/<image>, by ascending names. */
import { readdirSync, statSync } from 'node:fs';
import { extname, join } from 'node:path';
import { UserError } from '../../tensor/errors.js';
import { imageExtensions } from '../image-file.js';
import type { Archive } from './archive.js';

export const byName = (a: string, b: string): number => (a < b ? -1 : a > b ? 1 : 0);

export function openFolder(root: string): Archive {
  const files: string[] = [];
  const names: string[] = [];
  const labels: number[] = [];
  for (const name of readdirSync(root).sort(byName)) {
    const folder = join(root, name);
    if (!statSync(folder, { throwIfNoEntry: false })?.isDirectory()) continue;
    const found = readdirSync(folder).filter((file) => imageExtensions.includes(extname(file).toLowerCase()));
    for (const file of found.sort(byName)) {
      files.push(`${name}/${file}`);
      labels.push(names.length);
    }
    if (found.length > 0) names.push(name);
  }
  if (files.length === 0)
    throw new UserError(
      `expected images (${imageExtensions.join(', ')}) in folders <identity> of ${root}, found none`,
    );
  return {
    kind: 'folder',
    path: root,
    source: { kind: 'files', root, files },
    labels: Int32Array.from(labels),
    names,
    notes: [],
  };
}
