import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import sharp from 'sharp';
import * as assert from 'uvu/assert';
import { inspect } from './inspect.js';
import { inspectionText } from './inspect-text.js';
import { folderSuite } from './testing.js';

const test = folderSuite('inspection');

test('inspect: counts, statistics, duplicates, swapped colours, broken images', async ({ root }) => {
  const folder = join(root, 'x');
  const put = async (name: string, background: { r: number; g: number; b: number }) => {
    mkdirSync(join(folder, name, '..'), { recursive: true });
    const bytes = await sharp({ create: { width: 10, height: 10, channels: 3, background } })
      .png()
      .toBuffer();
    writeFileSync(join(folder, name), bytes);
  };
  await put('a/1.png', { r: 40, g: 80, b: 160 });
  await put('a/2.png', { r: 60, g: 80, b: 160 });
  await put('b/1.png', { r: 40, g: 80, b: 160 });
  writeFileSync(join(folder, 'b/2.png'), 'no');
  const found = await inspect(folder, { workers: 0, against: folder });
  assert.equal([found.images, found.identities, found.broken.length], [4, 2, 1]);
  assert.equal(found.imagesPerIdentity, { least: 2, median: 2, most: 2 });
  assert.equal(found.mean?.map(Math.round), [47, 80, 160]);
  assert.ok(Math.abs((found.std?.[0] ?? 0) - Math.sqrt(800 / 9)) < 1e-9);
  assert.equal(found.duplicates.within, [[join(folder, 'a/1.png'), join(folder, 'b/1.png')]]);
  assert.is(found.duplicates.across.length, 3);
  assert.match(found.colourOrder ?? '', 'in 3 of 3 colour images');
  assert.match(found.broken[0]?.reason ?? '', 'found none of these');
});

test('inspect: images that cannot be read are no duplicates, and have no size and no colours', async () => {
  writeFileSync('list.csv', 'a.jpg,1\nb.jpg,1\n');
  const found = await inspect('list.csv', { workers: 0, against: 'list.csv' });
  assert.is(found.broken.length, 2);
  assert.equal(found.duplicates, { within: [], across: [] });
  assert.equal([found.mean, found.std, found.bytes, found.sizes], [null, null, null, []]);
  assert.not.match(inspectionText(found), /pixels|size:|file:|colour/);
});

test.run();
