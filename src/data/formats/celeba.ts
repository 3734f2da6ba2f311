/**
 * A face set in CelebA's format: a folder that holds, at any depth, images, identity_celeba.txt (image, identity) and
 * list_attr_celeba.txt:
 *
 *     202599
 *     5_o_Clock_Shadow Arched_Eyebrows ... Young
 *     000001.jpg -1  1 ...  1
 *
 * 1 says that a face has the attribute, -1 that it has not. Images are named by their file names alone, and those of the identity
 * list are the set; one without attributes stays, with unknown ones.
 */
import { readdirSync } from 'node:fs';
import { basename, join } from 'node:path';
import { nearest } from '../../config/nearest.js';
import { UserError } from '../../tensor/errors.js';
import { isImageName } from '../image-file.js';
import type { Archive } from './archive.js';
import { filesSource, imageKey } from './image-source.js';
import { openList, readTable } from './list.js';

export interface AttributeArchive {
  archive: Archive;
  /** [images, T]: 1, 0, or NaN where unknown. */
  attributes: Float32Array;
}

/** @param names of the attributes wanted, in their order */
export async function openCelebA(folder: string, names: readonly string[]): Promise<AttributeArchive> {
  const places = new Map(filesIn(folder).map((file) => [basename(file).toLowerCase(), file]));
  const listed = (name: string) => {
    const file = places.get(name);
    if (file === undefined)
      throw new UserError(`expected ${name} in ${folder} (CelebA's format), found none`);
    return join(folder, file);
  };
  const identities = await openList(listed('identity_celeba.txt'));
  const { source, labels } = identities;
  const table = await readAttributes(listed('list_attr_celeba.txt'), names);
  const images: number[] = [];
  const files: string[] = [];
  labels.forEach((_, i) => {
    const place = places.get(basename(imageKey(source, i)).toLowerCase());
    if (place === undefined || !isImageName(place)) return;
    images.push(i);
    files.push(place);
  });
  if (files.length === 0)
    throw new UserError(`expected the images that ${identities.path} names in ${folder}, found none of them`);
  const attributes = new Float32Array(files.length * names.length).fill(NaN);
  files.forEach((file, i) => {
    const row = table.get(basename(file));
    if (row) attributes.set(row, i * names.length);
  });
  const missing = labels.length - files.length;
  return {
    archive: {
      ...identities,
      source: filesSource(folder, files),
      labels: Int32Array.from(images, (i) => labels[i] ?? 0),
      notes: missing > 0 ? [`${missing} images of ${identities.path} are not in ${folder}`] : [],
    },
    attributes,
  };
}

function filesIn(folder: string): string[] {
  try {
    return readdirSync(folder, { recursive: true, encoding: 'utf8' });
  } catch {
    throw new UserError(`expected a folder in CelebA's format, found none at ${folder}`);
  }
}

/** The wanted attributes of each image, by its file name. */
async function readAttributes(file: string, names: readonly string[]): Promise<Map<string, number[]>> {
  const [[count] = [], head = [], ...rows] = await readTable(file);
  const columns = names.map((name) => {
    const column = head.indexOf(name);
    const near = nearest(name, head);
    if (column < 0)
      throw new UserError(
        `${file}:2: expected the attribute ${name}, found none${near === undefined ? '' : ` (did you mean ${near}?)`}`,
      );
    return column;
  });
  if (Number(count) !== rows.length)
    throw new UserError(
      `${file}:1: expected the number of images that follow, ${rows.length}, found ${count}`,
    );
  return new Map(
    rows.map(([image = '', ...values], i) => [
      image,
      columns.map((column) => {
        const value = values.length === head.length ? values[column] : undefined;
        if (value !== '1' && value !== '-1')
          throw new UserError(
            `${file}:${i + 3}: expected an image and ${head.length} values of 1 or -1, found "${[image, ...values].join(' ').slice(0, 60)}"`,
          );
        return value === '1' ? 1 : 0;
      }),
    ]),
  );
}
