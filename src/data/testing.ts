// For the tests of sets: a folder of their own, images in it, and what is in a set.
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import sharp from 'sharp';
import { suite, type Test } from 'uvu';
import * as assert from 'uvu/assert';
import { UserError } from '../tensor/errors.js';
import type { Archive } from './formats/archive.js';
import { openSource } from './formats/image-source.js';

/** A suite whose tests each work in a folder of their own, `root`, which is removed afterwards. */
export function folderSuite(name: string): Test<{ root: string }> {
  const test = suite<{ root: string }>(name);
  const home = process.cwd();
  test.before.each((context) => {
    context.root = mkdtempSync(join(tmpdir(), 'turl-formats-'));
    process.chdir(context.root); // the cache of unpacked Parquet goes here
  });
  test.after.each(({ root }) => {
    process.chdir(home);
    rmSync(root, { recursive: true });
  });
  return test;
}

/** Every image with its identity's number, in order. */
export function contents({ source, labels }: Archive): [number, string][] {
  const reader = openSource(source);
  const found = Array.from(labels, (label, image): [number, string] => [
    label,
    reader.bytes(image).toString('hex'),
  ]);
  reader.close();
  return found;
}
export const fails = async (run: () => unknown, pattern: RegExp) => {
  try {
    await run();
  } catch (error) {
    assert.instance(error, UserError);
    assert.match((error as Error).message, pattern);
    return;
  }
  assert.unreachable(`expected an error like ${pattern}`);
};

/** A folder of `identities` with two or more images each, every image of one colour. */
export async function folderOf(root: string, identities: number): Promise<string> {
  const folder = join(root, 'faces');
  for (let i = 0; i < identities; i++)
    for (let j = 0; j < 2 + (i % 3); j++) {
      mkdirSync(join(folder, `person ${i}`), { recursive: true });
      const image = sharp({
        create: { width: 20, height: 20, channels: 3, background: { r: 200 - j, g: 90 + i, b: 60 } },
      });
      writeFileSync(
        join(folder, `person ${i}`, `${j}.${j % 2 ? 'png' : 'jpg'}`),
        await (j % 2 ? image.png() : image.jpeg()).toBuffer(),
      );
    }
  return folder;
}
