/** A folder of images, <identity>/<image>, by ascending identities (identities.ts) and names of images. */
import { existsSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { UserError } from '../../tensor/errors.js';
import { explaining, nowhere, statIfThere } from '../../train/atomic.js';
import { imageExtensions, isImageName } from '../image-file.js';
import type { Archive } from './archive.js';
import { byName, sortIdentities } from './identities.js';
import { filesSource } from './image-source.js';

/** The names in a folder, without those that begin with a dot. */
function namesIn(folder: string): string[] {
  const names = explaining(`read ${folder}`, () => readdirSync(folder)).filter(
    (name) => !name.startsWith('.'),
  );
  const strange = names.find((name) => name.includes('\uFFFD') && !existsSync(join(folder, name)));
  if (strange !== undefined) throw new UserError(`${folder}: expected names in UTF-8, found "${strange}"`);
  return names;
}

export function openFolder(root: string): Archive {
  const images = new Map<string, string[]>();
  for (const name of namesIn(root)) {
    const folder = join(root, name);
    if (!explaining(`open ${folder}`, () => statIfThere(folder, nowhere))?.isDirectory()) continue;
    const found = namesIn(folder).filter(isImageName).sort(byName);
    if (found.length > 0) images.set(name, found);
  }
  if (images.size === 0)
    throw new UserError(
      `expected images (${imageExtensions.join(', ')}) in folders <identity> of ${root}, found none`,
    );
  const names = sortIdentities(images.keys());
  const imagesOf = (name: string) => images.get(name) ?? [];
  return {
    kind: 'folder',
    path: root,
    source: filesSource(
      root,
      names.flatMap((name) => imagesOf(name).map((file) => `${name}/${file}`)),
    ),
    labels: Int32Array.from(names.flatMap((name, label) => imagesOf(name).map(() => label))),
    names,
    notes: [],
  };
}
