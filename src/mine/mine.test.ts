// Attributes learned from a set in CelebA's format, written as soft labels, and merged into a training as further variations.
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import sharp from 'sharp';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { configFrom, type Config } from '../config/index.js';
import { openDataset } from '../data/dataset.js';
import { openCelebA } from '../data/formats/celeba.js';
import { readSoftLabels, SoftLabels } from '../data/soft-labels.js';
import { evaluateRun } from '../evaluate/run.js';
import { randomValues } from '../testing.js';
import { describePlan } from '../train/plan.js';
import { findCheckpoint } from '../train/run-directory.js';
import { readSafetensors } from '../train/safetensors.js';
import { train } from '../train/trainer.js';
import { attributeFigures } from './evaluate.js';
import { attributeTable, labelImages, measureAttributes } from './index.js';
import { probeIdentity } from './probe.js';

const test = suite<{ folder: string; celeba: string }>('mined variations');

/** The number of an image: identity i has images of both attribute values. Bright and Left are seen in the picture at once. */
const [identities, images] = [8, 6];
const bright = (i: number) => i % 2 === 0;
const left = (i: number) => i % 3 === 0;

async function picture(number: number): Promise<Buffer> {
  const size = 34;
  const [i, noise] = [number % images, randomValues(size * size, number + 1)];
  const pixels = Uint8Array.from({ length: size * size * 3 }, (_, at) => {
    const [pixel, channel] = [Math.floor(at / 3), at % 3];
    const half = pixel % size < size / 2 === left(i);
    return (bright(i) ? 140 : 60) + (channel === 0 && half ? 80 : 0) + 10 * (noise[pixel] ?? 0);
  });
  return sharp(pixels, { raw: { width: size, height: size, channels: 3 } })
    .png()
    .toBuffer();
}

test.before(async (context) => {
  context.folder = mkdtempSync(join(tmpdir(), 'turl-mine-'));
  context.celeba = join(context.folder, 'celeba');
  const [identity, attribute]: [string[], string[]] = [[], []];
  for (let person = 0; person < identities; person++)
    for (let i = 0; i < images; i++) {
      const name = `${String(person * images + i).padStart(6, '0')}.png`;
      mkdirSync(join(context.celeba, `img/${person}`), { recursive: true });
      writeFileSync(join(context.celeba, `img/${person}/${name}`), await picture(person * images + i));
      identity.push(`${name} ${person + 10}`);
      const sign = (value: boolean) => (value ? ' 1' : '-1');
      // The last image of each identity has no attributes.
      if (i < images - 1) attribute.push(`${name} ${sign(bright(i))} -1 ${sign(left(i))}`);
    }
  writeFileSync(join(context.celeba, 'identity_CelebA.txt'), `${identity.join('\n')}\n999999.png 3\n`);
  writeFileSync(
    join(context.celeba, 'list_attr_celeba.txt'),
    `${attribute.length}\nBright Bald Left \n${attribute.join('\n')}\n`,
  );
});
test.after(({ folder }) => rmSync(folder, { recursive: true }));

const model = {
  name: 'iresnet-small',
  input_size: 32,
  embedding_size: 16,
  channels: [4, 4, 8, 8],
  blocks: [1, 1, 1, 1],
};
const unvaried = {
  blur: { probability: 0 },
  occlusion: { probability: 0 },
  pose: { probability: 0 },
};
const attributes = (celeba: string, values: Record<string, unknown> = {}): Config =>
  configFrom({
    stage: 'attributes',
    model,
    data: {
      source: 'photographs',
      path: celeba,
      held_out_identities: 3,
      image_size: 34,
      workers: 0,
      flip: false,
    },
    augment: unvaried,
    mined: { variations: ['Left', 'Bright'] },
    loss: { lambda_adv: 1 },
    optimizer: { lr: 0.05 },
    train: { batch_size: 10, steps: 40, checkpoint_every: 15, log_every: 20 },
    ...values,
  });

test('the format: images by their names, unknown attributes, what is wrong is named', async ({
  celeba,
  folder,
}) => {
  const { archive, attributes: found } = openCelebA(celeba, ['Left', 'Bright']);
  assert.is(archive.labels.length, identities * images);
  assert.equal([...found.subarray(0, 4)], [1, 1, 0, 0]);
  assert.ok(found.subarray(2 * (images - 1), 2 * images).every(Number.isNaN));
  assert.match(archive.notes[0] ?? '', /^1 images of .* are not in /);
  const { train: trained, heldOut, soft, heldOutSoft } = await openDataset(attributes(celeba));
  assert.equal([trained.identities, heldOut?.identities], [5, 3]);
  assert.equal([soft?.missing, heldOutSoft?.missing], [5, 3]);
  for (let image = 0; image < trained.images; image++) {
    const i = Number(/(\d+)\.png$/.exec(trained.imageName(image))?.[1]) % images;
    const row = [...(soft?.rows(Int32Array.of(image)) ?? [])];
    assert.equal(row, i === images - 1 ? [NaN, NaN] : [Number(left(i)), Number(bright(i))]);
  }
  const wrong = async (attribute: string, pattern: RegExp, names = ['Bright']) => {
    const other = join(folder, 'wrong');
    mkdirSync(other, { recursive: true });
    writeFileSync(join(other, 'identity_celeba.txt'), 'a.png 1\n');
    writeFileSync(join(other, 'a.png'), await picture(0));
    if (attribute) writeFileSync(join(other, 'list_attr_celeba.txt'), attribute);
    assert.throws(() => openCelebA(other, names), pattern);
    rmSync(other, { recursive: true });
  };
  await wrong('', /expected list_attr_celeba\.txt in .*wrong/);
  await wrong('1\nBright\na.png 1\n', /txt:2: expected the attribute Brihgt, found none \(did you mean Bright\?\)/, ['Brihgt']); // prettier-ignore
  await wrong('2\nBright\na.png 1\n', /txt:1: expected the number of images that follow, 1, found 2/);
  await wrong('1\nBright\na.png 0\n', /txt:3: expected an image and 1 values of 1 or -1, found "a\.png 0"/);
  await wrong('1\nBright Left\na.png 1\n', /txt:3: expected an image and 2 values/);
});

test('planned, trained, resumed to the same bits, measured, labelled, merged', async ({ celeba, folder }) => {
  const config = attributes(celeba, { work_dir: join(folder, 'run') });
  assert.match(await describePlan(config), /\nupdates: 40 of 10 images\n/);
  await train(config);
  const evaluation = await measureAttributes(join(folder, 'run'));
  for (const { name, images: count, accuracy, balanced } of evaluation.attributes) {
    assert.is(count, 3 * (images - 1), name);
    assert.ok(accuracy > 0.9 && balanced > 0.9, `${name}: ${accuracy}, ${balanced}`);
  }
  assert.is(evaluation.probes.length, 3);
  assert.match(attributeTable(evaluation), /Left +│ 15/);
  await evaluateRun(join(folder, 'run')).then(
    () => assert.unreachable(),
    (error: unknown) => assert.match(String(error), /holds a model of attributes/),
  );

  const half = { ...config, work_dir: join(folder, 'half') };
  const stop = new AbortController();
  setTimeout(() => stop.abort(), 0);
  const first = await train(half, { signal: stop.signal });
  assert.ok(first.interrupted);
  await train(half, { resume: half.work_dir });
  const weights = (run: string) => readSafetensors(findCheckpoint(join(folder, run)).checkpoint.file).tensors;
  for (const [name, stored] of weights('run'))
    assert.ok(Buffer.from(weights('half').get(name)?.data ?? []).equals(stored.data), name);

  const out = join(folder, 'labels.csv');
  const set = join(celeba, 'img');
  const { images: labelled, broken } = await labelImages(join(folder, 'run'), { data: set, out });
  assert.equal([labelled, broken], [identities * images, []]);
  await labelImages(join(folder, 'run'), { data: set, out: join(folder, 'labels.txt') }).then(
    () => assert.unreachable(),
    (error: unknown) =>
      assert.match(String(error), /--out .*labels\.txt: expected a name that ends in \.csv/),
  );
  const wrong = join(set, '0', 'wrong.png');
  writeFileSync(wrong, 'no image');
  const rest = await labelImages(join(folder, 'run'), { data: set, out: join(folder, 'rest.csv') });
  assert.equal([rest.images, rest.broken.map(({ file }) => file)], [identities * images, [wrong]]);
  rmSync(wrong);
  const [head, ...rows] = readFileSync(out, 'utf8').trimEnd().split('\n');
  assert.is(head, 'image,Left,Bright');
  let right = 0;
  for (const row of rows) {
    const [name = '', l = '', b = ''] = row.split(',');
    const i = Number(/^\d+\/(\d+)\.png$/.exec(name)?.[1]) % images;
    assert.match(`${l} ${b}`, /^[01]\.\d{4} [01]\.\d{4}$/);
    right += Number(Number(l) > 0.5 === left(i)) + Number(Number(b) > 0.5 === bright(i));
  }
  assert.ok(right > 1.8 * rows.length, `${right} of ${2 * rows.length}`);

  const merged = configFrom({
    model,
    data: { source: 'photographs', path: set, image_size: 34, workers: 0, min_images_per_identity: 2 },
    augment: { ...unvaried, blur: { probability: 0.5 } },
    mined: { variations: ['Bright', 'Left'], labels: out },
    loss: { groups: 4, margin: 1, confidence: { initial: 4 } },
    train: { batch_size: 8, steps: 3, log_every: 1 },
    work_dir: join(folder, 'merged'),
  });
  assert.match(await describePlan(merged), /\nupdates: 3 of 8 images\n/);
  await train(merged);
  const discriminator = weights('merged').get('loss.discriminator.masks');
  assert.equal(discriminator?.shape, [3, 4]); // blur, Bright, Left
});

test('soft labels: by name, in any order of columns; gaps are unknown; what is wrong is named', async ({
  celeba,
  folder,
}) => {
  const config = configFrom({
    model,
    augment: unvaried,
    data: { source: 'photographs', path: join(celeba, 'img'), image_size: 34, workers: 0 },
  });
  const { train: faces } = await openDataset(config);
  const file = join(folder, 'table.csv');
  const read = (text: string) => {
    writeFileSync(file, text);
    return readSoftLabels(file, ['A', 'B'], faces);
  };
  const labels = await read('image,B,x,A\n0/000001.png,0.25,7,1\nother.png,9,9,9\n"0/000000.png",,7,0.5\n');
  assert.equal([...labels.rows(Int32Array.of(1, 0, 2))], [1, 0.25, 0.5, NaN, NaN, NaN]);
  assert.is(labels.missing, faces.images - 2);
  for (const [text, pattern] of [
    ['image,A\n0/000001.png,1\n', /table\.csv:1: expected the columns image, A, B, found image, A/],
    ['image,A,B\n0/000001.png,1,1.5\n', /table\.csv:2: expected probabilities from 0 to 1, found "1\.5"/],
    ['image,A,B\n0/000001.png,1\n', /table\.csv:2: expected probabilities from 0 to 1, found ""/],
    ['image,A,B\n0/000001.png,yes,1\n', /table\.csv:2: .*found "yes"/],
    [
      'image,A,B\nother.png,1,1\n',
      /expected labels of the training images, such as 0\/000000\.png, found none/,
    ],
  ] as const)
    await read(text).then(
      () => assert.unreachable(text),
      (error: unknown) => assert.match(String(error), pattern),
    );
});

test('the probe finds what is there, and nothing where nothing is', () => {
  const [people, each, width] = [10, 8, 12];
  const labels = Array.from({ length: people * each }, (_, i) => Math.floor(i / each));
  const noise = randomValues(labels.length * width, 4);
  const telling = Float32Array.from(
    noise,
    (v, i) => v + 4 * Number(labels[Math.floor(i / width)] === i % width),
  );
  const { accuracy, identities: count, images: tested, chance } = probeIdentity(telling, width, labels);
  assert.equal([count, tested, chance], [10, 40, 0.1]);
  assert.ok(accuracy > 0.95, String(accuracy));
  // Of 40 images guessed at one in ten, more than 11 right are seen less often than once in a thousand.
  assert.ok(probeIdentity(Float32Array.from(noise), width, labels).accuracy <= 11 / 40);
  assert.is(probeIdentity(new Float32Array(3), 1, [1, 2, 3]).identities, 0);
});

test('figures of attributes: counts by hand', () => {
  const values = Float32Array.of(1, 0, 0, 0, NaN); // one has it, three have not, one is unknown
  const probability = Float32Array.of(0.9, 0.1, 0.2, 0.8, 0.9);
  assert.equal(attributeFigures(probability, new SoftLabels(['A'], values)), [
    { name: 'A', images: 4, share: 0.25, accuracy: 0.75, balanced: (1 + 2 / 3) / 2 },
  ]);
});

test.run();
