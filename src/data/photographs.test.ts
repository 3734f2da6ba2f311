import {
  appendFileSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import sharp from 'sharp';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { UserError } from '../tensor/errors.js';
import { findByNumber, openReader, splitIdentities } from './face-set.js';
import { resizeSquare } from './image-file.js';
import { openPhotographs } from './photographs.js';

const test = suite<{ root: string }>('photographs');
test.before.each((context) => {
  context.root = mkdtempSync(join(tmpdir(), 'turl-folder-'));
});
test.after.each(({ root }) => rmSync(root, { recursive: true }));

const flat = (width: number, height: number, background: { r: number; g: number; b: number }) =>
  sharp({ create: { width, height, channels: 3, background } });
const orange = { r: 200, g: 100, b: 50 };

function put(root: string, path: string, content: Uint8Array): void {
  mkdirSync(join(root, path, '..'), { recursive: true });
  writeFileSync(join(root, path), content);
}
const quiet = { workers: 0, cache: null };

// A 24-bit BMP and a binary PGM of one colour, written out by hand: sharp makes neither.
function bmp(width: number, height: number, { r, g, b }: typeof orange): Buffer {
  const row = Math.ceil((width * 3) / 4) * 4;
  const file = Buffer.alloc(54 + row * height);
  file.write('BM');
  file.writeUInt32LE(file.length, 2);
  file.writeUInt32LE(54, 10);
  file.writeUInt32LE(40, 14);
  file.writeInt32LE(width, 18);
  file.writeInt32LE(height, 22);
  file.writeUInt16LE(1, 26);
  file.writeUInt16LE(24, 28);
  for (let y = 0; y < height; y++) for (let x = 0; x < width; x++) file.set([b, g, r], 54 + y * row + x * 3);
  return file;
}
const pgm = (width: number, height: number, grey: number): Buffer =>
  Buffer.concat([Buffer.from(`P5\n${width} ${height}\n255\n`), Buffer.alloc(width * height, grey)]);

test('every format becomes RGB of the wanted size', async ({ root }) => {
  put(root, 'anna/a.jpg', await flat(20, 20, orange).jpeg({ quality: 100 }).toBuffer());
  put(root, 'anna/b.PNG', await flat(16, 16, orange).png().toBuffer());
  put(root, 'anna/c.webp', await flat(32, 20, orange).webp({ lossless: true }).toBuffer());
  put(root, 'anna/d.bmp', bmp(9, 9, orange));
  put(root, 'bert/a.pgm', pgm(24, 30, 77));
  put(root, 'bert/b.png', await flat(16, 16, orange).toColourspace('rgb16').png().toBuffer());
  put(root, 'bert/c.png', await flat(16, 16, orange).ensureAlpha(0.5).png().toBuffer());
  put(root, 'bert/notes.txt', Buffer.from('not an image, and not taken for one'));
  const { faces, broken } = await openPhotographs(root, { size: 16, ...quiet });
  assert.equal(broken, []);
  assert.is(faces.images, 7);
  assert.is(faces.identities, 2);
  assert.is(faces.yawAvailable, false);
  assert.equal(
    Array.from({ length: 7 }, (_, i) => faces.identityName(faces.label(i))),
    ['anna', 'anna', 'anna', 'anna', 'bert', 'bert', 'bert'],
  );
  const reader = openReader(faces);
  const out = new Uint8Array(16 * 16 * 3);
  for (let image = 0; image < faces.images; image++) {
    reader.read(image, out);
    const wanted = faces.imageName(image).endsWith('.pgm') ? [77, 77, 77] : [200, 100, 50];
    // JPEG's colour conversion rounds; everything else is exact up to one level of the resize.
    out.forEach((x, i) => assert.ok(Math.abs(x - (wanted[i % 3] ?? 0)) <= 2, faces.imageName(image)));
  }
});

test('an image that is not square keeps its centred square', async ({ root }) => {
  // Left third red, middle third green, right third blue.
  const stripes = Buffer.alloc(24 * 8 * 3);
  for (let i = 0; i < 24 * 8; i++) stripes[i * 3 + Math.floor((i % 24) / 8)] = 255;
  const png = await sharp(stripes, { raw: { width: 24, height: 8, channels: 3 } })
    .png()
    .toBuffer();
  put(root, 'a/1.png', png);
  put(root, 'b/1.png', png);
  const { faces } = await openPhotographs(root, { size: 8, ...quiet });
  const out = new Uint8Array(8 * 8 * 3);
  openReader(faces).read(0, out);
  assert.ok(out.every((x, i) => x === (i % 3 === 1 ? 255 : 0)));
});

test('an image of another size keeps its slopes where they were', () => {
  for (const [side, size] of [
    [12, 4],
    [9, 6],
    [8, 16],
  ] as const) {
    const slopes = (n: number, at: (i: number) => number) =>
      Array.from(
        { length: n * n * 3 },
        (_, i) => [at(Math.floor(i / 3) % n), at(Math.floor(i / 3 / n)), 5][i % 3]!,
      );
    const out = new Uint8Array(size * size * 3);
    resizeSquare(
      Uint8Array.from(
        slopes(side, (i) => i),
        (v) => 20 * v,
      ),
      side,
      size,
      out,
    );
    const centres = slopes(size, (i) => (i === 0 || i === size - 1 ? NaN : ((i + 0.5) * side) / size - 0.5));
    // At the rim the filter is cut off. Elsewhere it is balanced but for its steps, and values are rounded.
    centres.forEach((c, i) =>
      assert.not(Math.abs((out[i] ?? 0) - 20 * c) > 1.1, `${side} to ${size}: ${out[i]} for ${20 * c}`),
    );
  }
  // Made smaller, stripes become grey.
  const grey = new Uint8Array(4 * 4 * 3);
  resizeSquare(
    Uint8Array.from({ length: 12 * 12 * 3 }, (_, i) => 200 * (Math.floor(i / 3) % 2)),
    12,
    4,
    grey,
  );
  assert.ok(
    grey.every((value) => Math.abs(value - 100) < 12),
    String(grey),
  );
});

test('broken images are named, skipped and counted', async ({ root }) => {
  const jpeg = await flat(40, 40, orange).jpeg().toBuffer();
  for (const name of ['a', 'b']) for (const n of [1, 2]) put(root, `${name}/${n}.jpg`, jpeg);
  put(root, 'a/3.jpg', jpeg.subarray(0, jpeg.length - 60));
  put(root, 'b/3.jpg', Buffer.from('hello'));
  put(root, 'b/4.png', (await flat(40, 40, orange).png().toBuffer()).subarray(0, 80));
  put(root, 'c/1.jpg', Buffer.alloc(0));
  const { faces, broken, leftOut } = await openPhotographs(root, {
    size: 8,
    minImagesPerIdentity: 2,
    ...quiet,
  });
  assert.is(faces.images, 4);
  assert.is(leftOut, 1);
  assert.equal(
    broken.map(({ file }) => file.slice(root.length + 1)),
    ['a/3.jpg', 'b/3.jpg', 'b/4.png', 'c/1.jpg'],
  );
  assert.match(broken[0]?.reason ?? '', 'truncated');
  assert.match(broken[3]?.reason ?? '', 'empty');
});

test('workers find the same, and what was checked is remembered until a file changes', async ({ root }) => {
  const jpeg = await flat(40, 40, orange).jpeg().toBuffer();
  for (const name of ['a', 'b']) put(root, `${name}/1.jpg`, jpeg);
  put(root, 'a/2.jpg', Buffer.from('hello'));
  const cache = mkdtempSync(join(tmpdir(), 'turl-cache-'));
  try {
    let checked = 0;
    const options = {
      size: 8,
      workers: 1,
      cache,
      onProgress: (_: number, total: number) => (checked = total),
    };
    const first = await openPhotographs(root, options);
    assert.is(checked, 3);
    checked = 0;
    assert.equal(await openPhotographs(root, options), first);
    assert.is(checked, 0);
    appendFileSync(join(root, 'b/1.jpg'), 'x');
    await openPhotographs(root, options);
    assert.is(checked, 1);
    for (const name of readdirSync(cache)) writeFileSync(join(cache, name), 'damaged');
    await openPhotographs(root, options);
    assert.is(checked, 3);
  } finally {
    rmSync(cache, { recursive: true });
  }
});

const message = async (promise: Promise<unknown>): Promise<string> => {
  try {
    await promise;
  } catch (error) {
    assert.instance(error, UserError);
    return error instanceof Error ? error.message : '';
  }
  return 'nothing was thrown';
};

test('identities with too few or too many images are left out', async ({ root }) => {
  const jpeg = await flat(40, 40, orange).jpeg().toBuffer();
  for (const [name, count] of Object.entries({ a: 1, b: 2, c: 3, d: 4 }))
    for (let n = 0; n < count; n++) put(root, `${name}/${n}.jpg`, jpeg);
  const open = (least: number, most: number, maxIdentities: number | null = null) => {
    const limits = { minImagesPerIdentity: least, maxImagesPerIdentity: most, maxIdentities };
    return openPhotographs(root, { size: 8, ...limits, ...quiet });
  };
  for (const [least, most, identities, expected] of [
    [2, 3, null, 2],
    [2, 4, 2, 1],
  ] as const) {
    const { faces, leftOut } = await open(least, most, identities);
    assert.equal([faces.identityName(0), faces.identityName(1), faces.identities], ['b', 'c', 2]);
    assert.is(leftOut, expected);
  }
  try {
    await open(3, 3);
    assert.unreachable();
  } catch (error) {
    assert.match(String(error), 'expected at least 2 identities with 3 to 3 usable images');
  }
});

test('an empty, missing or one-identity folder is an error', async ({ root }) => {
  assert.match(await message(openPhotographs(join(root, 'no'), { size: 8, ...quiet })), 'found none at');
  assert.match(await message(openPhotographs(root, { size: 8, ...quiet })), 'found none');
  put(root, 'a/1.png', await flat(8, 8, orange).png().toBuffer());
  assert.match(await message(openPhotographs(root, { size: 8, ...quiet })), 'found 1 of 1');
});

test('links that lead below a file or in a circle are none; an image listed below a file is broken', async ({
  root,
}) => {
  put(root, 'anna/a.png', await flat(16, 16, orange).png().toBuffer());
  put(
    root,
    'bert/a.png',
    await flat(16, 16, { ...orange, g: 50 })
      .png()
      .toBuffer(),
  );
  symlinkSync(join(root, 'anna/a.png/b'), join(root, 'below'));
  symlinkSync(join(root, 'circle'), join(root, 'circle'));
  const { faces, archive } = await openPhotographs(root, { size: 16, ...quiet });
  assert.equal(archive.names, ['anna', 'bert']);
  assert.is(faces.images, 2);
  const list = join(root, 'list.csv');
  writeFileSync(list, 'path,label\nanna/a.png,1\nanna/a.png/b.png,1\nbert/a.png,2\n');
  const { broken } = await openPhotographs(list, { size: 16, ...quiet });
  assert.equal(
    broken.map(({ file }) => file),
    [join(root, 'anna/a.png/b.png')],
  );
});

test('a file that breaks later is named', async ({ root }) => {
  for (const name of ['a', 'b']) put(root, `${name}/1.png`, await flat(8, 8, orange).png().toBuffer());
  const { faces } = await openPhotographs(root, { size: 8, ...quiet });
  writeFileSync(join(root, 'b/1.png'), readFileSync(join(root, 'a/1.png')).subarray(0, 30));
  assert.throws(() => openReader(faces).read(1, new Uint8Array(192)), /b\/1\.png/);
});

test('subsets, splits and names of pairs files', async ({ root }) => {
  const png = await flat(8, 8, orange).png().toBuffer();
  for (const name of ['Ann_Lee', 'Bo', 'Cy', 'Di', 'Ed'])
    for (const n of [1, 2]) put(root, `${name}/${name}_000${n}.png`, png);
  const { faces } = await openPhotographs(root, { size: 8, ...quiet });
  assert.is(findByNumber(faces)('Bo', 2), 3);
  assert.is(findByNumber(faces)('Bo', 3), undefined);
  const { train, heldOut } = splitIdentities(faces, 2, 5);
  assert.is(train.identities + heldOut.identities, 5);
  const names = [train, heldOut].flatMap((set) =>
    Array.from({ length: set.identities }, (_, i) => set.identityName(i)),
  );
  assert.equal([...names].sort(), ['Ann_Lee', 'Bo', 'Cy', 'Di', 'Ed']);
  for (let image = 0; image < train.images; image++)
    assert.ok(train.imageName(image).startsWith(`${train.identityName(train.label(image))}/`));
  assert.equal(splitIdentities(faces, 2, 5).heldOut.data.names, heldOut.data.names);
  assert.throws(
    () => splitIdentities(faces, 4, 5),
    /^data\.held_out_identities: expected at most 3 of 5 identities/,
  );
});

test.run();
