import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import sharp from 'sharp';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { openArchive } from '../data/formats/archive.js';
import { FaceRenderer } from '../data/synthetic/render.js';
import { pack } from '../data/pack.js';
import { device } from '../tensor/device.js';
import { alignPhotographs } from './align.js';
import { openDetector } from './detector.js';
import { readLandmarks } from './landmarks.js';
import { decodedImages } from './pictures.js';
import { alignedPoints, apply, fitSimilarity, invert, templateOf, warp, type Point } from './similarity.js';

const test = suite('alignment');

/** A generated face on a larger grey picture, turned and moved. */
function photograph(
  identity: number,
  side: number,
  move: readonly [number, number, number, number],
  yaw = 0,
) {
  const size = 112;
  const face = new Uint8Array(size * size * 3);
  new FaceRenderer(5, size).render(identity, 0, face, yaw);
  const pixels = new Uint8Array(side * side * 3);
  warp({ width: size, height: size, pixels: face }, invert(move), side, pixels);
  return { width: side, height: side, pixels };
}

test('the similarity between moved points is the movement, and its inverse undoes it', () => {
  const move = [1.3, -0.4, 12, -7] as const;
  const moved = alignedPoints.map((p) => apply(move, p));
  fitSimilarity(alignedPoints, moved).forEach((value, i) =>
    assert.ok(Math.abs(value - (move[i] ?? 0)) < 1e-9),
  );
  moved.forEach((p, i) => {
    const [x, y] = apply(invert(move), p);
    assert.ok(Math.hypot(x - (alignedPoints[i]?.[0] ?? 0), y - (alignedPoints[i]?.[1] ?? 0)) < 1e-9);
  });
});

test('the least-squares similarity is no worse than any near it', () => {
  const to: Point[] = alignedPoints.map(([x, y], i) => [x * 0.8 + 5 + (i % 2) * 3, y * 0.8 - i]);
  const error = (s: readonly [number, number, number, number]): number =>
    alignedPoints.reduce((sum, p, i) => {
      const [x, y] = apply(s, p);
      const [u, v] = to[i] ?? [0, 0];
      return sum + (x - u) ** 2 + (y - v) ** 2;
    }, 0);
  const [a, b, c, d] = fitSimilarity(alignedPoints, to);
  const best = error([a, b, c, d]);
  for (const step of [-0.01, 0.01]) {
    assert.ok(error([a + step, b, c, d]) > best);
    assert.ok(error([a, b + step, c, d]) > best);
    assert.ok(error([a, b, c + step, d]) > best);
    assert.ok(error([a, b, c, d + step]) > best);
  }
});

test('a picture under a similarity: whole pixels are copied, shrinking averages, beyond is black', () => {
  const pixels = Uint8Array.from({ length: 8 * 8 * 3 }, (_, i) => (i * 7) % 256);
  const picture = { width: 8, height: 8, pixels };
  const shifted = new Uint8Array(4 * 4 * 3);
  warp(picture, [1, 0, 2, 3], 4, shifted);
  for (let y = 0; y < 4; y++)
    assert.equal(
      shifted.slice(y * 12, y * 12 + 12),
      pixels.slice(((y + 3) * 8 + 2) * 3, ((y + 3) * 8 + 6) * 3),
    );
  const half = new Float32Array(4 * 4 * 3);
  warp(picture, [2, 0, 0.5, 0.5], 4, half);
  const mean = [0, 3, 24, 27].reduce((sum, i) => sum + (pixels[i] ?? 0) / 4, 0);
  assert.ok(Math.abs((half[0] ?? 0) - mean) < 1e-3);
  warp(picture, [1, 0, 100, 100], 4, shifted);
  assert.ok(shifted.every((value) => value === 0));
});

test('faces are found where they are, upright or not, with their yaw', () => {
  const detector = openDetector(device('cpu'));
  const blank = { width: 200, height: 160, pixels: new Uint8Array(200 * 160 * 3).fill(90) };
  const moves = [
    [1, 0, 60, 70],
    [1.1, 0.3, 80, 30],
  ] as const;
  const pictures = moves.flatMap((move) => [0, 30, -30].map((yaw) => photograph(3, 256, move, yaw)));
  // Of two faces, the one in the middle comes before the larger one at the rim.
  const two = photograph(3, 256, [0.7, 0, 90, 90]);
  const other = photograph(4, 256, [0.9, 0, -10, -10]);
  two.pixels.set(other.pixels.subarray(0, 90 * 256 * 3));
  const [none, both = [], ...found] = detector.detect([blank, two, ...pictures]);
  assert.equal(none, []);
  assert.equal(
    both.map(({ box: [left] }) => left > 90),
    [true, false],
    JSON.stringify(both.map(({ box }) => box)),
  );
  found.forEach(([face], i) => {
    const move = moves[Math.floor(i / 3)] ?? [1, 0, 0, 0];
    const yaw = [0, 30, -30][i % 3] ?? 0;
    assert.ok(face, `no face in picture ${i}`);
    // Generated faces are not what the detector learned from, and are not drawn exactly on the template.
    // A turned nose leaves the template.
    face.points.forEach((p, k) => {
      if (yaw !== 0 && k === 2) return;
      const [x, y] = apply(move, alignedPoints[k] ?? [0, 0]);
      assert.ok(Math.hypot(p[0] - x, p[1] - y) < 12, `picture ${i}, point ${k}: ${p.join()} for ${x}, ${y}`);
    });
    assert.ok(Math.abs(face.yaw - yaw) < 10, `picture ${i}: yaw ${face.yaw} for ${yaw}`);
    assert.is(face.mesh.length, 468 * 3);
  });
  detector.dispose();
});

test('photographs become crops in any format; those without a face are listed, never filled in', async () => {
  const root = mkdtempSync(join(tmpdir(), 'turl-align-'));
  try {
    for (const [identity, move] of [
      ['a', [1, 0, 30, 40]],
      ['b', [1.2, 0.2, 60, 20]],
    ] as const) {
      mkdirSync(join(root, 'photos', identity), { recursive: true });
      const { width, height, pixels } = photograph(identity === 'a' ? 1 : 2, 256, move);
      await sharp(pixels, { raw: { width, height, channels: 3 } })
        .png()
        .toFile(join(root, 'photos', identity, '1.png'));
    }
    writeFileSync(
      join(root, 'photos/b/2.png'),
      await sharp({ create: { width: 90, height: 120, channels: 3, background: 'grey' } })
        .png()
        .toBuffer(),
    );
    writeFileSync(join(root, 'photos/b/3.png'), 'no image');
    const jpeg = await sharp(join(root, 'photos/b/1.png')).jpeg().toBuffer();
    writeFileSync(join(root, 'photos/b/4.jpg'), jpeg.subarray(0, jpeg.length >> 1));
    const archive = await openArchive(join(root, 'photos'));
    for (const to of ['crops', 'crops.rec', 'crops.parquet']) {
      const done = await alignPhotographs(archive, join(root, to), device('cpu'), {
        workers: 1,
        quality: 'png',
      });
      assert.is(done.images, 2);
      assert.equal(
        done.missing.map(({ file }) => file),
        ['b/2.png', 'b/3.png', 'b/4.jpg'],
      );
      assert.match(
        readFileSync(done.list ?? '', 'utf8'),
        /^file,reason\nb\/2\.png,no face found\nb\/3\.png,"?expected JPEG.*\nb\/4\.jpg,the JPEG is truncated/,
      );
      const crops = await openArchive(join(root, to));
      assert.equal([...crops.labels], [0, 1]);
    }
    const again = openDetector(device('cpu'));
    const { data } = await sharp(join(root, 'crops/b/1.png')).raw().toBuffer({ resolveWithObject: true });
    const [[face] = []] = again.detect([{ width: 112, height: 112, pixels: data }]);
    again.dispose();
    // The five points lie on the template but for what a similarity cannot mend.
    face?.points.forEach((p, k) =>
      assert.ok(Math.hypot(p[0] - (alignedPoints[k]?.[0] ?? 0), p[1] - (alignedPoints[k]?.[1] ?? 0)) < 8),
    );
    assert.ok(face);
  } finally {
    rmSync(root, { recursive: true });
  }
});

test('identities that are interleaved stay whole; without those of which no crop is left the others have no gap', async () => {
  const root = mkdtempSync(join(tmpdir(), 'turl-order-'));
  const home = process.cwd();
  try {
    process.chdir(root);
    const list: string[] = [];
    for (let i = 0; i < 9; i++) {
      const noise = Buffer.from(Uint8Array.from({ length: 120 * 120 * 3 }, (_, k) => (k * (131 + i)) % 256));
      await sharp(noise, { raw: { width: 120, height: 120, channels: 3 } })
        .png()
        .toFile(`${i}.png`);
      list.push(`${i}.png ${7 + (i % 3)}\n`);
    }
    writeFileSync('identity.txt', list.join(''));
    const points = templateOf(112)
      .map(([x, y]) => `${x + 4} ${y + 4}`)
      .join(' ');
    // The second person has none.
    const given = [0, 3, 6, 2, 5, 8];
    writeFileSync('points.txt', given.map((i) => `${i}.png ${points}\n`).join(''));
    const archive = await openArchive('identity.txt');
    const options = { workers: 0, quality: 'png', landmarks: readLandmarks('points.txt') } as const;
    for (const to of ['crops.rec', 'crops', 'crops.parquet']) {
      writeFileSync(`${to}.missing.csv`, 'of earlier crops');
      const { missing } = await alignPhotographs(archive, to, device('cpu'), options);
      assert.equal(
        missing.map(({ file }) => file),
        ['1.png', '4.png', '7.png'],
      );
      const crops = await openArchive(to);
      assert.equal([...crops.labels], [0, 0, 0, 1, 1, 1], to);
      assert.equal(crops.notes, []);
    }
    assert.is(readFileSync('property', 'utf8'), '2,112,112\n');
    // An image in a file has its number as its name, and where nothing is missing no list stays.
    await pack(await openArchive('crops'), 'photos.parquet');
    writeFileSync('numbers.txt', given.map((_, i) => `${i} ${points}\n`).join(''));
    const photos = await openArchive('photos.parquet');
    const numbers = readLandmarks('numbers.txt');
    writeFileSync('again.missing.csv', 'of earlier crops');
    const again = await alignPhotographs(photos, 'again', device('cpu'), { ...options, landmarks: numbers });
    assert.equal([again.images, again.missing, again.list], [6, [], null]);
    assert.not.ok(readdirSync('.').includes('again.missing.csv'));
    const none = { of: (key: string) => (key === '3' ? undefined : numbers.of(key)) };
    const { missing } = await alignPhotographs(photos, 'less', device('cpu'), {
      ...options,
      landmarks: none,
    });
    assert.equal(missing, [{ file: '3', reason: 'no points in the landmark file' }]);
    const before = readdirSync('.');
    const nothing = { ...options, onProgress: () => assert.unreachable() };
    await alignPhotographs(archive, 'x.bin', device('cpu'), nothing).then(
      () => assert.unreachable(),
      (error: Error) =>
        assert.match(error.message, /^x\.bin: expected a folder, \.rec or \.parquet for crops/),
    );
    assert.equal(readdirSync('.'), before);
    // An interrupt leaves nothing that would be in the way of the same command.
    const stop = new AbortController();
    const interrupted = { ...options, signal: stop.signal, onProgress: () => stop.abort() };
    await alignPhotographs(archive, 'stopped', device('cpu'), interrupted).then(
      () => assert.unreachable(),
      (error: Error) => assert.is(error.message, 'interrupted: nothing of stopped is kept'),
    );
    assert.equal(readdirSync('.'), before);
  } finally {
    process.chdir(home);
    rmSync(root, { recursive: true });
  }
});

test('photographs are turned upright as their EXIF data say, unless points come from a file', async () => {
  const root = mkdtempSync(join(tmpdir(), 'turl-upright-'));
  try {
    mkdirSync(join(root, 'a'));
    const { width, height, pixels } = photograph(1, 256, [1, 0, 30, 40]);
    const upright = sharp(pixels.subarray(0, width * 200 * 3), { raw: { width, height: 200, channels: 3 } });
    for (let orientation = 1; orientation <= 8; orientation++)
      await upright
        .jpeg({ quality: 100 })
        .withMetadata({ orientation })
        .toFile(join(root, `a/${orientation}.jpg`));
    // Where the data are damaged, the picture is as it is stored.
    const damaged = readFileSync(join(root, 'a/3.jpg'));
    writeFileSync(
      join(root, 'a/9.jpg'),
      damaged.fill(255, damaged.indexOf('Exif') + 6, damaged.indexOf('Exif') + 14),
    );
    const { source } = await openArchive(root);
    let i = 0;
    for await (const { images } of decodedImages(source, { workers: 1, batch: 2, upright: true }))
      for (const image of images) {
        const file = sharp(join(root, `a/${i + 1}.jpg`));
        const { data, info } = await (i < 8 ? file.rotate() : file)
          .raw()
          .toBuffer({ resolveWithObject: true });
        assert.is(image.fault, null);
        if (image.fault !== null) break;
        assert.equal([image.width, image.height], [info.width, info.height]);
        assert.ok(
          data.every((value, k) => Math.abs(value - (image.pixels[k] ?? NaN)) < 8),
          `${i + 1}`,
        );
        i++;
      }
    assert.is(i, 9);
    for await (const { images } of decodedImages(source, { workers: 0 }))
      for (const image of images) assert.equal([image.fault, 'width' in image && image.width], [null, 256]);
    // Upside down with the orientation that says so: the crop is that of the photograph, with the points of either kind.
    const turned = Uint8Array.from({ length: pixels.length }, (_, i) => {
      const channel = i % 3;
      return pixels[pixels.length - 3 - (i - channel) + channel] ?? 0;
    });
    mkdirSync(join(root, 'faces/a'), { recursive: true });
    for (const [name, data, orientation] of [
      ['1', pixels, 1],
      ['2', turned, 3],
    ] as const)
      await sharp(data, { raw: { width, height, channels: 3 } })
        .jpeg({ quality: 100 })
        .withMetadata({ orientation })
        .toFile(join(root, `faces/a/${name}.jpg`));
    const points = alignedPoints.map(([x, y]): Point => [x + 30, y + 40]);
    const rotated = points.map(([x, y]): Point => [width - 1 - x, height - 1 - y]);
    const landmarks = { of: (key: string) => (key === 'a/1.jpg' ? points : rotated) };
    for (const [to, more] of [
      ['found', {}],
      ['given', { landmarks }],
    ] as const) {
      const faces = await openArchive(join(root, 'faces'));
      const options = { workers: 0, quality: 'png', ...more } as const;
      await alignPhotographs(faces, join(root, to), device('cpu'), options);
      const [one = Buffer.alloc(0), two = Buffer.alloc(0)] = await Promise.all(
        ['1', '2'].map((name) =>
          sharp(join(root, to, `a/${name}.png`))
            .raw()
            .toBuffer(),
        ),
      );
      const difference = one.reduce((sum, value, i) => sum + Math.abs(value - (two[i] ?? 0)), 0) / one.length;
      assert.ok(difference < 3, `${to}: ${difference}`);
    }
  } finally {
    rmSync(root, { recursive: true });
  }
});

test('points from a file stand in for the detector', async () => {
  const root = mkdtempSync(join(tmpdir(), 'turl-landmarks-'));
  try {
    mkdirSync(join(root, 'photos/a'), { recursive: true });
    const noise = Buffer.from(Uint8Array.from({ length: 120 * 120 * 3 }, (_, i) => (i * 131) % 256));
    await sharp(noise, { raw: { width: 120, height: 120, channels: 3 } })
      .png()
      .toFile(join(root, 'photos/a/1.png'));
    await sharp(noise, { raw: { width: 120, height: 120, channels: 3 } })
      .png()
      .toFile(join(root, 'photos/a/2.png'));
    // The template four pixels to the right and down of where it is in a crop: the crop is the picture from 4, 4 on.
    const points = templateOf(112).map(([x, y]) => `${x + 4} ${y + 4}`);
    writeFileSync(join(root, 'celeba.txt'), `1\nlefteye_x lefteye_y\n1.png ${points.join(' ')}\n`);
    const landmarks = readLandmarks(join(root, 'celeba.txt'));
    const archive = await openArchive(join(root, 'photos'));
    const done = await alignPhotographs(archive, join(root, 'crops'), device('cpu'), {
      workers: 0,
      quality: 'png',
      landmarks,
    });
    assert.equal(done.missing, [{ file: 'a/2.png', reason: 'no points in the landmark file' }]);
    const { data } = await sharp(join(root, 'crops/a/1.png')).raw().toBuffer({ resolveWithObject: true });
    for (const [x, y] of [
      [0, 0],
      [50, 70],
      [111, 111],
    ] as const)
      assert.equal(
        [...data.subarray((y * 112 + x) * 3, (y * 112 + x) * 3 + 3)],
        [...noise.subarray(((y + 4) * 120 + x + 4) * 3, ((y + 4) * 120 + x + 4) * 3 + 3)],
      );
    // Rows that are no face's: each is listed with the reason, and where none is left nothing stays behind.
    for (const [row, reason] of [
      [
        '20 20 60 20 40 40 25 1e6 55 60',
        /^a point lies outside of the photograph: 25, 1000000 in 120 x 120 pixels$/,
      ],
      ['5 5 5 5 5 5 5 5 5 5', /^the five points are not those of a face/],
      ['0.3 0.4 0.6 0.4 0.5 0.6 0.4 0.8 0.6 0.8', /^the five points are not those of a face/],
      ['60 20 20 20 40 40 55 60 25 60', /^the five points are not those of a face/], // left and right exchanged
    ] as const) {
      writeFileSync(join(root, 'wrong.txt'), `1.png ${row}\n2.png ${points.join(' ')}\n`);
      const wrong = readLandmarks(join(root, 'wrong.txt'));
      const to = mkdtempSync(join(root, 'wrong-'));
      const { images, missing } = await alignPhotographs(archive, to, device('cpu'), {
        workers: 0,
        landmarks: wrong,
      });
      assert.is(images, 1);
      assert.match(missing[0]?.reason ?? '', reason);
    }
    writeFileSync(join(root, 'wrong.txt'), '1.png 5 5 5 5 5 5 5 5 5 5\n');
    const none = readLandmarks(join(root, 'wrong.txt'));
    for (const to of ['none', 'none.rec', 'none.parquet']) {
      const reason = await alignPhotographs(archive, join(root, to), device('cpu'), {
        workers: 0,
        landmarks: none,
      }).then(
        () => '',
        (error: Error) => error.message,
      );
      assert.match(reason, /found none in 2 images \(the first, a\/1\.png: the five points are not/);
    }
    assert.equal(
      readdirSync(root).filter((name) => name.startsWith('none')),
      [],
    );
    writeFileSync(join(root, 'bad.csv'), 'path,a\n1.png,1,2,3,4,5,6,7,8,9,10\n2.png,1,2,3,4,x,6,7,8,9,10\n');
    assert.throws(
      () => readLandmarks(join(root, 'bad.csv')),
      /bad\.csv, row 3: expected a path and ten numbers .* found "2\.png 1 2/,
    );
  } finally {
    rmSync(root, { recursive: true });
  }
});

test.run();
