import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import sharp from 'sharp';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { configSchema } from '../config/schema.js';
import { openDataset } from './dataset.js';
import { openReader, type FaceSet } from './face-set.js';
import { readImages } from './read-images.js';

const test = suite('datasets');
const data = {
  source: 'synthetic',
  identities: 4,
  held_out_identities: 2,
  images_per_identity: 3,
  image_size: 24,
};
const config = configSchema.parse({ name: 'test', data: { ...data, workers: 1 }, model: { input_size: 20 } });

async function readAll(faces: FaceSet, workers: number, yaw?: number): Promise<Uint8Array> {
  const bytes = faces.size ** 2 * 3;
  const all = new Uint8Array(faces.images * bytes);
  for await (const { start, count, pixels } of readImages(faces, { batchSize: 4, workers, yaw })) {
    assert.is(pixels.length, count * bytes);
    all.set(pixels, start * bytes);
  }
  return all;
}

test('generated faces are split by identity, and training faces rendered when asked', async () => {
  const { train, heldOut, broken } = await openDataset(config, { render: true });
  assert.is(train.images, 12);
  assert.is(heldOut?.images, 6);
  assert.equal(broken, []);
  assert.ok(train.data.rendered?.turned);
  const names = [...train.data.names, ...(heldOut?.data.names ?? [])].map(Number);
  assert.equal(
    names.sort((a, b) => a - b),
    [0, 1, 2, 3, 4, 5],
  );
});

test('images read in batches are those of the reader, at any yaw, with any number of workers', async () => {
  const { heldOut } = await openDataset(config);
  if (!heldOut) throw new Error('nothing was held out');
  for (const yaw of [undefined, 50]) {
    const bytes = 24 * 24 * 3;
    const wanted = new Uint8Array(heldOut.images * bytes);
    const reader = openReader(heldOut);
    for (let i = 0; i < heldOut.images; i++) reader.read(i, wanted.subarray(i * bytes, (i + 1) * bytes), yaw);
    for (const workers of [0, 2]) assert.equal(await readAll(heldOut, workers, yaw), wanted);
  }
});

test('batches of more images than there are read each image once', async () => {
  const { heldOut } = await openDataset(config);
  if (!heldOut) throw new Error('nothing was held out');
  const rows: [number, number, number][] = [];
  for await (const { start, count, pixels } of readImages(heldOut, { batchSize: 2 ** 40, workers: 0 }))
    rows.push([start, count, pixels.buffer.byteLength / 24 ** 2 / 3]);
  assert.equal(rows, [[0, 6, 4 * 6]]);
});

test('photographs that should be turned are refused; how many have been checked is told before', async () => {
  const root = mkdtempSync(join(tmpdir(), 'turl-dataset-'));
  try {
    for (const name of ['a', 'b']) {
      mkdirSync(join(root, name));
      const image = sharp({ create: { width: 24, height: 24, channels: 3, background: 'red' } });
      writeFileSync(join(root, name, '1.png'), await image.png().toBuffer());
    }
    const folder = {
      source: 'photographs',
      path: root,
      image_size: 24,
      min_images_per_identity: 1,
      workers: 0,
    };
    const told: number[][] = [];
    const onCheck = (...counts: number[]) => told.push(counts);
    const failure = await openDataset(configSchema.parse({ name: 'test', data: folder }), { onCheck }).then(
      () => 'nothing was thrown',
      (error: Error) => error.message,
    );
    assert.match(
      failure,
      /expected face meshes of .* to turn the heads by, found none: make them with turl data fit/,
    );
    assert.equal(told, [[2, 2]]);
  } finally {
    rmSync(root, { recursive: true });
  }
});

test.run();
