import { mkdirSync, mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import sharp from 'sharp';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { configSchema } from '../config/schema.js';
import { augmentColumns } from '../data/augment.js';
import { writeContactSheet } from '../data/contact-sheet.js';
import { openDataset } from '../data/dataset.js';
import { copyBatch, type Batch } from '../data/loader.js';
import { variationNames } from '../data/variations.js';
import { device } from '../tensor/device.js';
import { UserError } from '../tensor/errors.js';
import { augmentedPixels, trainingLoader } from './network-input.js';
import { batchOf, forced, preview } from './preview.js';

const test = suite('preview');
const config = configSchema.parse({
  name: 'test',
  seed: 5,
  model: { input_size: 24 },
  data: { source: 'synthetic', identities: 5, images_per_identity: 6, image_size: 28, workers: 1 },
  train: { batch_size: 8 },
  augment: { occlusion: { blocks: 4 } },
});

/** The batches of a training that has been going on since its first step. */
async function trained(steps: number): Promise<Batch[]> {
  const { train } = await openDataset(config, { render: true });
  const loader = trainingLoader(config, train, 0);
  const batches: Batch[] = [];
  for (let i = 0; i < steps; i++) batches.push(copyBatch(await loader.next()));
  await loader.close();
  return batches;
}

test('a preview of a step has the very draws and pixels of the training', async () => {
  const batches = await trained(5);
  const { train } = await openDataset(config);
  for (const step of [0, 4]) {
    const wanted = batches[step] as Batch;
    const got = await batchOf(config, train, step);
    assert.equal(got, wanted);
    assert.equal(augmentedPixels(config, device(), got), augmentedPixels(config, device(), wanted));
  }
});

test('a variation alone keeps its parameters, and the crop and mirroring', async () => {
  const [first] = await trained(1);
  const { train } = await openDataset(config);
  const wanted = first as Batch;
  const row = (batch: Batch, i: number) => [
    ...batch.augmentation.subarray(i * augmentColumns, (i + 1) * augmentColumns),
  ];
  let compared = 0;
  for (const [m, name] of variationNames.entries()) {
    const batch = await batchOf(config, train, 0, forced(config.augment, [name]));
    for (let i = 0; i < config.train.batch_size; i++) {
      variationNames.forEach((_, k) => assert.is(batch.variations[i * 3 + k], Number(k === m)));
      assert.equal(row(batch, i).slice(0, 3), row(wanted, i).slice(0, 3));
      if (!wanted.variations[i * 3 + m]) continue;
      compared++;
      if (name === 'blur') assert.is(row(batch, i)[3], row(wanted, i)[3]);
      if (name === 'occlusion') assert.equal(row(batch, i).slice(4), row(wanted, i).slice(4));
      const bytes = wanted.pixels.length / config.train.batch_size;
      if (name === 'pose')
        assert.equal(
          batch.pixels.slice(i * bytes, (i + 1) * bytes),
          wanted.pixels.slice(i * bytes, (i + 1) * bytes),
        );
    }
  }
  assert.ok(compared > 3);
});

test('the sheets show those pixels', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'turl-preview-'));
  try {
    const [file = '', variations = ''] = await preview(config, folder, { step: 2, images: 3 });
    const size = 24;
    const zoom = Math.ceil(80 / size);
    /** Some pixels of the image in that row and column of a sheet, number `image` of a batch. */
    const shows = async (
      sheet: string,
      rows: number,
      cells: [row: number, column: number, Batch, image: number][],
    ) => {
      const { data, info } = await sharp(sheet).removeAlpha().raw().toBuffer({ resolveWithObject: true });
      for (const [row, column, batch, image] of cells) {
        const pixels = augmentedPixels(config, device(), batch);
        for (const [y, x] of [
          [0, 0],
          [12, 7],
          [23, 23],
        ] as const) {
          const line = (row * info.height) / rows + 1 + y * zoom;
          const at = (line * info.width + column * (size * zoom + 2) + 1 + x * zoom) * 3;
          const from = ((image * size + y) * size + x) * 3;
          for (let c = 0; c < 3; c++)
            assert.is(
              data[at + c],
              Math.max(0, Math.min(255, Math.round((pixels[from + c] ?? 0) * 127.5 + 127.5))),
            );
        }
      }
      return info.width;
    };
    const step = (await trained(3))[2] as Batch;
    await shows(
      file,
      1,
      [0, 1, 2].map((image) => [0, image, step, image]),
    );
    const { train } = await openDataset(config);
    const of = (names: readonly (typeof variationNames)[number][]) =>
      batchOf(config, train, 2, forced(config.augment, names));
    const width = await shows(variations, 2, [
      [0, 0, await of([]), 0],
      [1, 2, await of(['occlusion']), 1],
      [1, 4, await of(variationNames), 1],
    ]);
    assert.is(width, 5 * (size * zoom + 2));
  } finally {
    rmSync(folder, { recursive: true });
  }
});

test('a contact sheet that cannot be written: one sentence, and nothing is left', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'turl-sheet-'));
  try {
    const file = join(folder, 'faces.png');
    mkdirSync(file);
    const sheet = { images: new Float32Array(12), size: 2, mean: 0, scale: 1 };
    const error = await writeContactSheet(file, sheet).catch((thrown: unknown) => thrown);
    assert.instance(error, UserError);
    assert.match((error as Error).message, /^cannot write .*faces\.png: it is a folder$/);
    assert.equal(readdirSync(folder), ['faces.png']);
  } finally {
    rmSync(folder, { recursive: true });
  }
});

test.run();
