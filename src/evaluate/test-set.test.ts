import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import sharp from 'sharp';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { configFrom } from '../config/index.js';
import { createArchive } from '../data/formats/writers.js';
import { openTestSet } from './test-set.js';

const test = suite<{ folder: string; lfw: string; png: Buffer }>('test sets');

test.before(async (context) => {
  context.folder = mkdtempSync(join(tmpdir(), 'turl-test-set-'));
  context.lfw = join(context.folder, 'lfw');
  const pixels = new Uint8Array(34 * 34 * 3).fill(99);
  context.png = await sharp(pixels, { raw: { width: 34, height: 34, channels: 3 } })
    .png()
    .toBuffer();
  for (const name of ['Anna', 'Bert']) {
    mkdirSync(join(context.lfw, name), { recursive: true });
    for (const i of [1, 2]) writeFileSync(join(context.lfw, name, `${name}_000${i}.png`), context.png);
  }
  writeFileSync(join(context.lfw, 'Bert', 'Bert_0003.png'), 'no image');
});
test.after(({ folder }) => rmSync(folder, { recursive: true }));

const open = (evaluate: { pairs?: string; images?: string }) =>
  openTestSet(configFrom({ data: { image_size: 34, workers: 0 }, model: { input_size: 32 }, evaluate }), () =>
    Promise.reject(new Error('the run’s own set is not asked for')),
  );

async function refusal(evaluate: { pairs?: string; images?: string }): Promise<string> {
  try {
    await open(evaluate);
  } catch (error) {
    return String(error);
  }
  return 'none';
}

test('images without pairs are not passed over', async ({ lfw }) => {
  assert.match(
    await refusal({ images: lfw }),
    /evaluate\.images .*lfw: expected evaluate\.pairs \(--pairs FILE\) with it, which .*, found none$/,
  );
});

test('images that pairs name and that cannot be used are named once each', async ({ folder, lfw }) => {
  const pairs = join(folder, 'pairs.txt');
  const lines = ['Anna 1 2', 'Bert 1 3', 'Anna 1 Bert 1', 'Anna 2 Bert 2'];
  const more = ['Bert 1 2', 'Anna 2 9', 'Anna 1 Bert 2', 'Anna 9 Bert 3'];
  writeFileSync(pairs, `2 2\n${[...lines, ...more].join('\n')}\n`);
  const found = await open({ pairs, images: lfw });
  assert.is(found?.failures, 3);
  assert.equal(found?.failed, ['Bert/Bert_0003', 'Anna/Anna_0009']);
  assert.is(found?.dataset.images, 4);
});

test('a set of its own pairs is taken; pairs of one kind or of one fold are refused with the name of the file', async ({
  folder,
  lfw,
  png,
}) => {
  const pairs = join(folder, 'one.txt');
  writeFileSync(pairs, '1 1\nAnna 1 2\nAnna 1 Bert 1\n');
  assert.match(
    await refusal({ pairs, images: lfw }),
    /one\.txt: expected pairs of usable images in each of 2 folds, found them in 1$/,
  );
  const bin = join(folder, 'same.bin');
  const write = async (file: string, images: readonly Uint8Array[], genuine = [true, true]) => {
    const writer = createArchive(file, 34);
    for (const [i, bytes] of images.entries())
      await writer.add({ bytes, label: 0, identity: '', name: String(i) });
    await writer.finish(genuine.slice(0, images.length / 2));
  };
  await write(bin, [png, png, png, png]);
  // Ten folds of one pair; the one with a broken image is left out.
  const alternately = Array.from({ length: 11 }, (_, i) => i % 2 === 0);
  const good = join(folder, 'good.bin');
  const images = Array.from({ length: 22 }, (_, i) => (i === 1 ? Buffer.from('no image') : png));
  await write(good, images, alternately);
  const found = await open({ pairs: good });
  assert.equal(found?.pairs.genuine, alternately.slice(1));
  assert.equal([...(found?.pairs.first ?? [])], [1, 3, 5, 7, 9, 11, 13, 15, 17, 19]);
  assert.equal([found?.failures, found?.failed?.length, found?.rule], [1, 1, 'its own pairs']);
  assert.match(
    await refusal({ pairs: bin }),
    /same\.bin: expected genuine and impostor pairs of usable images, found 2 and 0$/,
  );
  assert.match(
    await refusal({ pairs, images: bin }),
    /evaluate\.images .*same\.bin: expected images without pairs beside .*one\.txt, found pairs of its own/,
  );
  const broken = join(folder, 'broken.bin');
  await write(broken, [Buffer.from('no'), Buffer.from('image')]);
  assert.match(
    await refusal({ pairs: broken }),
    /broken\.bin: expected images, found none that can be used \(/,
  );
});

test.run();
