// turl embed's work from start to end: a small trained network, one set of images in each format.
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import sharp from 'sharp';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { configFrom } from '../config/index.js';
import { openReader } from '../data/face-set.js';
import { openArchive } from '../data/formats/archive.js';
import { createArchive } from '../data/formats/writers.js';
import { syntheticFaces } from '../data/generate.js';
import { pack } from '../data/pack.js';
import { train } from '../train/trainer.js';
import { assertClose } from '../testing.js';
import { embedImages } from './embed.js';
import { meanFeatures } from './templates.js';

const size = 34;
const identities = ['anna', 'bert', 'carl'];
const test = suite<{ folder: string; run: string; faces: string; pixels: Uint8Array[] }>('embedding of sets');

const png = (pixels: Uint8Array) =>
  sharp(pixels, { raw: { width: size, height: size, channels: 3 } })
    .png()
    .toBuffer();

test.before(async (context) => {
  context.folder = mkdtempSync(join(tmpdir(), 'turl-embed-'));
  context.run = join(context.folder, 'run');
  context.faces = join(context.folder, 'faces');
  const data = { source: 'synthetic', identities: 4, images_per_identity: 4, image_size: size, workers: 0 };
  await train(
    configFrom({
      work_dir: context.run,
      model: {
        name: 'iresnet-small',
        input_size: 32,
        embedding_size: 16,
        channels: [4, 4, 8, 8],
        blocks: [1, 1, 1, 1],
      },
      data,
      loss: { groups: 4, margin: 2, confidence: { initial: 4 } },
      train: { batch_size: 8, steps: 4 },
    }),
  );
  const reader = openReader(
    syntheticFaces({ identities: identities.length, imagesPerIdentity: 2, size, seed: 7 }),
  );
  context.pixels = [];
  for (let image = 0; image < 6; image++) {
    const pixels = new Uint8Array(size * size * 3);
    reader.read(image, pixels);
    context.pixels.push(pixels);
    const person = join(context.faces, identities[image >> 1] ?? '');
    mkdirSync(person, { recursive: true });
    writeFileSync(join(person, `${image % 2}.png`), await png(pixels));
  }
});
test.after(({ folder }) => rmSync(folder, { recursive: true }));

test('every format gives the same embeddings, with the names and identities that it has', async (context) => {
  const { folder, run, faces } = context;
  const expected = await embedImages(run, faces);
  assert.equal(expected.names.slice(0, 3), ['anna/0.png', 'anna/1.png', 'bert/0.png']);
  assert.equal(expected.identities, ['anna', 'anna', 'bert', 'bert', 'carl', 'carl']);
  assert.is(expected.features.embedding.length, 6 * 16);
  assert.is(expected.features.confidence?.length, 6 * 4);
  const { step, flip } = expected.about;
  assert.equal({ step, flip }, { step: '4', flip: 'false' });

  for (const name of ['faces.rec', 'faces.parquet']) {
    await pack(await openArchive(faces), join(folder, name));
    const found = await embedImages(run, join(folder, name));
    assert.equal(found.features, expected.features, name);
    assert.equal(found.names, ['0', '1', '2', '3', '4', '5'], name);
    assert.is(new Set(found.identities).size, 3, name);
  }

  const list = join(faces, 'list.csv');
  writeFileSync(list, 'path,label\ncarl/1.png,carl\nanna/0.png,anna\n');
  const listed = await embedImages(run, list);
  assert.equal(listed.names, ['carl/1.png', 'anna/0.png']);
  assert.equal(listed.identities, ['carl', 'anna']);
  assert.equal(listed.features.embedding.subarray(16), expected.features.embedding.subarray(0, 16));
});

test('a verification set has no identities', async ({ folder, run, pixels }) => {
  const path = join(folder, 'pairs.bin');
  const writer = createArchive(path, size);
  for (const [image, one] of pixels.entries())
    await writer.add({ bytes: await png(one), label: 0, identity: '', name: String(image) });
  await writer.finish([true, true, true]);
  const { identities: found, features } = await embedImages(run, path);
  assert.equal(found, new Array(6).fill(''));
  assert.equal(features.embedding, (await embedImages(run, join(folder, 'faces'))).features.embedding);
});

test('with flip: the mean with the embeddings of mirrored files', async ({ folder, run, faces, pixels }) => {
  const mirrored = join(folder, 'mirrored');
  mkdirSync(join(mirrored, 'all'), { recursive: true });
  for (const [image, one] of pixels.entries())
    writeFileSync(
      join(mirrored, 'all', `${image}.png`),
      await sharp(await png(one))
        .flop()
        .png()
        .toBuffer(),
    );
  const both = await embedImages(run, faces, ['evaluate.flip=true']);
  const [plain, other] = [await embedImages(run, faces), await embedImages(run, mirrored)];
  const mean = meanFeatures(plain.features, other.features);
  assertClose(both.features.embedding, mean.embedding, 1e-6);
  assertClose(both.features.confidence ?? [], mean.confidence ?? [NaN], 1e-6);
  assert.is(both.about['flip'], 'true');
});

test('broken images are left out and named; nothing but broken ones is an error', async ({ folder, run }) => {
  const path = join(folder, 'broken');
  mkdirSync(join(path, 'dora'), { recursive: true });
  writeFileSync(join(path, 'dora', 'a.png'), 'no image');
  let message = '';
  await embedImages(run, path).catch((error: unknown) => (message = String(error)));
  assert.match(message, /broken: expected images, found none that can be used \(.*a\.png: /);
  writeFileSync(join(path, 'dora', 'b.png'), await png(new Uint8Array(size * size * 3)));
  const { names, broken } = await embedImages(run, path);
  assert.equal(names, ['dora/b.png']);
  assert.is(broken.length, 1);
  assert.match(broken[0]?.file ?? '', /a\.png$/);
});

test.run();
