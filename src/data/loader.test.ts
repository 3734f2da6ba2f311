import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import sharp from 'sharp';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { augmentColumns } from './augment.js';
import { writeContactSheet } from './contact-sheet.js';
import { balancedSampling } from './sampling.js';
import { openPhotographs } from './photographs.js';
import { openReader, FaceSet } from './face-set.js';
import { renderAhead, syntheticFaces } from './generate.js';
import { WorkerPool } from './jobs.js';
import { fails } from './testing.js';
import { filesSource, imageKey } from './formats/image-source.js';
import { shareArrays } from './shared-memory.js';
import { copyBatch, Loader, type Batch, type LoaderOptions } from './loader.js';

const test = suite('loader');
const variations: LoaderOptions['variations'] = {
  blur: { probability: 0.5, sizes: [3, 7], method: 'gaussian', factors: [2, 4] },
  occlusion: { probability: 0.5, blocks: 7, share: [0.1, 0.5] },
  pose: { probability: 0.5, yaw: [40, 60] },
};
const options = (faces: FaceSet, more: Partial<LoaderOptions> = {}): LoaderOptions => ({
  faces,
  batchSize: 5,
  seed: 9,
  crop: 20,
  flip: true,
  variations,
  workers: 0,
  ...more,
});
const faces = await renderAhead(syntheticFaces({ seed: 1, identities: 3, imagesPerIdentity: 4, size: 24 }), {
  workers: 0,
  yaw: [40, 60],
  seed: 9,
});

async function take(count: number, loaderOptions: LoaderOptions): Promise<Batch[]> {
  const loader = new Loader(loaderOptions);
  const batches: Batch[] = [];
  for (let i = 0; i < count; i++) batches.push(copyBatch(await loader.next()));
  await loader.close();
  return batches;
}

test('a batch depends on seed and step only: workers, prefetch and resuming change nothing', async () => {
  const wanted = await take(6, options(faces));
  assert.equal(await take(6, options(faces, { workers: 2, prefetch: 3 })), wanted);
  assert.equal(await take(3, options(faces, { workers: 1, prefetch: 1, start: 3 })), wanted.slice(3));
  assert.is.not(JSON.stringify(await take(6, options(faces, { seed: 10 }))), JSON.stringify(wanted));
});

test('images rendered ahead are those rendered now', async () => {
  const plain = syntheticFaces({ seed: 1, identities: 3, imagesPerIdentity: 4, size: 24 });
  assert.equal(await take(3, options(plain)), await take(3, options(faces)));
});

test('an epoch has every image once, and labels are theirs', async () => {
  const batches = await take(12, options(faces)); // 60 images: five epochs of 12
  const images = batches.flatMap((batch) => [...batch.images]);
  const all = Array.from({ length: 12 }, (_, i) => i);
  const epochs = [0, 1, 2, 3, 4].map((e) => images.slice(e * 12, e * 12 + 12));
  for (const epoch of epochs)
    assert.equal(
      [...epoch].sort((a, b) => a - b),
      all,
    );
  assert.is.not(String(epochs[0]), String(epochs[1]));
  assert.equal(
    batches.map((batch) => batch.epoch),
    [0, 0, 0, 1, 1, 2, 2, 2, 3, 3, 4, 4],
  );
  for (const batch of batches)
    batch.images.forEach((image, i) => assert.is(batch.labels[i], faces.label(image)));
});

test('P identities with Q images each: side by side, no identity twice in a round, no draw twice', async () => {
  const uneven = faces.subset([2, 0, 1]);
  const balanced = options(uneven, { batchSize: 6, sampling: { identities: 2, images: 3 } });
  const batches = await take(6, balanced); // six rounds, each of two of the three identities
  assert.equal(await take(3, { ...balanced, workers: 1, start: 3 }), batches.slice(3));
  const turns = batches.flatMap(({ labels }) => [labels.slice(0, 3), labels.slice(3)]);
  for (const labels of turns) assert.is(new Set(labels).size, 1);
  for (const { images } of batches) assert.is(new Set(images).size, 6); // four images each: none twice
  const many = await take(8, { ...balanced, batchSize: 10, sampling: { identities: 2, images: 5 } });
  assert.is(new Set(many[0]?.images).size, 8); // five of four: one of each twice
  const sampling = balancedSampling(uneven, { identities: 2, images: 5 }, 3);
  const keys = Array.from({ length: 200 }, (_, i) => sampling(Math.floor(i / 10), i % 10)).map(
    (s) => `${s.epoch} ${s.image}`,
  );
  assert.is(new Set(keys).size, keys.length);
  // Rounds of one batch and of three: every batch has P identities, every round as many as whole batches take, all of them in turns.
  for (const [identities, perRound] of [
    [2, 1],
    [1, 3],
  ] as const) {
    const place = balancedSampling(uneven, { identities, images: 3 }, 5);
    const shown = new Map<number, number>();
    for (let round = 0; round < 200; round++) {
      const inRound = Array.from({ length: perRound * identities }, (_, turn) =>
        uneven.label(place(round * perRound + Math.floor(turn / identities), (turn % identities) * 3).image),
      );
      assert.is(new Set(inRound).size, inRound.length);
      for (const label of inRound) shown.set(label, (shown.get(label) ?? 0) + 1);
    }
    // Two of three a round: 133 of 200 with a deviation of 6.7, and five of them.
    for (const n of shown.values())
      assert.ok(Math.abs(n - (200 * perRound * identities) / 3) < 34, String(n));
    assert.is(shown.size, 3);
  }
  assert.throws(
    () => new Loader({ ...balanced, batchSize: 5 }),
    'expected 5 images in a batch, got 2 identities of 3',
  );
  assert.throws(
    () => new Loader({ ...balanced, batchSize: 8, sampling: { identities: 4, images: 2 } }),
    'at most the 3 identities',
  );
});

test('pixels and variation labels follow what was drawn', async () => {
  const reader = openReader(faces);
  const bytes = 24 * 24 * 3;
  const plain = new Uint8Array(bytes);
  const counts = [0, 0, 0];
  const hidden = new Int32Array(7 * 7);
  for (const batch of await take(20, options(faces)))
    batch.images.forEach((image, i) => {
      const [blur, occlusion, pose] = batch.variations.subarray(i * 3, i * 3 + 3);
      const row = batch.augmentation.subarray(i * augmentColumns, (i + 1) * augmentColumns);
      const [top = -1, left = -1, flip = -1, size] = row;
      assert.ok(top >= 0 && top <= 4 && left >= 0 && left <= 4 && (flip === 0 || flip === 1));
      assert.is(Number(size !== 0), blur);
      assert.ok(size === 0 || size === 3 || size === 7);
      const blocks = hidden.map((_, block) => ((row[4 + (block >> 5)] ?? 0) >>> (block & 31)) & 1);
      const black = blocks.reduce((sum, one) => sum + one, 0);
      // A tenth to a half of 49 blocks.
      assert.ok(occlusion ? black >= 5 && black <= 25 : black === 0, `${black} black blocks`);
      blocks.forEach((one, block) => (hidden[block] = (hidden[block] ?? 0) + one));
      if (pose) reader.readTurned(image, plain, NaN);
      else reader.read(image, plain);
      assert.equal(batch.pixels.slice(i * bytes, (i + 1) * bytes), plain);
      [blur, occlusion, pose].forEach((on, k) => (counts[k] = (counts[k] ?? 0) + (on ?? 0)));
    });
  // 100 images at one half: five standard deviations are 25.
  for (const count of counts) assert.ok(Math.abs(count - 50) < 25, String(counts));
  // About 50 are occluded, three blocks of ten in each: any block in about 15, with a deviation of 3.2.
  for (const count of hidden) assert.ok(count > 0 && count < 35, String(hidden));
});

test('photographs are never turned, and a missing file ends in its name', async () => {
  const root = mkdtempSync(join(tmpdir(), 'turl-loader-'));
  try {
    for (const name of ['a', 'b']) {
      mkdirSync(join(root, name));
      const image = sharp({ create: { width: 24, height: 24, channels: 3, background: 'red' } });
      writeFileSync(join(root, name, '1.png'), await image.png().toBuffer());
    }
    const { faces: photographs } = await openPhotographs(root, { size: 24, workers: 0, cache: null });
    for (const batch of await take(4, options(photographs, { workers: 1 })))
      for (let i = 0; i < 5; i++) assert.is(batch.variations[i * 3 + 2], 0);
    rmSync(join(root, 'b/1.png'));
    for (const workers of [0, 1]) {
      const loader = new Loader(options(photographs, { workers }));
      const failure = await loader.next().then(
        () => 'nothing was thrown',
        (error: Error) => `${error.name} ${error.message}`,
      );
      assert.match(failure, /UserError .*b\/1\.png/);
      await loader.close();
    }
  } finally {
    rmSync(root, { recursive: true });
  }
});

test('low resolution by resampling: factors instead of sizes, and nothing else is drawn otherwise', async () => {
  const drawn = async (method: 'gaussian' | 'resample' | 'either') =>
    take(10, options(faces, { variations: { ...variations, blur: { ...variations.blur, method } } }));
  const [gaussian, resample, either] = [
    await drawn('gaussian'),
    await drawn('resample'),
    await drawn('either'),
  ];
  const counts = new Map<number, number>();
  gaussian.forEach((batch, b) =>
    batch.images.forEach((_, i) => {
      const at = i * augmentColumns + 3;
      const [size = 0, factor = 0, one = 0] = [batch, resample[b], either[b]].map((x) => x?.augmentation[at]);
      assert.is(size !== 0, factor !== 0);
      if (size !== 0) assert.ok(factor === -2 || factor === -4);
      assert.ok(one === size || one === factor);
      counts.set(one, (counts.get(one) ?? 0) + 1);
    }),
  );
  // About 25 images of 50 are blurred, so each of the four kinds comes up.
  for (const kind of [3, 7, -2, -4]) assert.ok((counts.get(kind) ?? 0) > 0, `${kind} was never drawn`);
  const without = ({ augmentation, ...rest }: Batch) => ({
    ...rest,
    augmentation: augmentation.map((value, i) => (i % augmentColumns === 3 ? 0 : value)),
  });
  assert.equal(resample.map(without), gaussian.map(without));
  assert.equal(either.map(without), gaussian.map(without));
});

test('a thread that dies ends what waits for it and what is asked for later, with the reason', async () => {
  const pool = new WorkerPool(1, { faces: { ...faces.data, source: null } as never });
  for (let i = 0; i < 2; i++)
    await pool.run({ kind: 'check', begin: 0, end: 1 }).then(
      () => assert.unreachable(),
      (error: Error) => assert.is(error.name, 'TypeError'),
    );
  await pool.close();
});

test('what says where images are is sent to threads as memory that they share, not as copies', () => {
  const names = ['a/1.jpg', 'é/☺.png', '', 'b/2.jpg'];
  const images = filesSource('root', names);
  const { data } = syntheticFaces({ seed: 1, identities: 2, imagesPerIdentity: 2, size: 8 });
  const meshes = { file: 'meshes', position: 0, rows: Int32Array.of(0, -1, 1, 2) };
  const mine = shareArrays({ ...data, source: { kind: 'photographs', images, meshes } as const });
  const theirs = structuredClone(mine);
  assert.equal(
    names.map((_, image) => imageKey(theirs.source.images, image)),
    names,
  );
  if (mine.source.images.kind === 'files') mine.source.images.files.utf8[0] = 'c'.charCodeAt(0);
  mine.items[0] = mine.labels[0] = mine.source.meshes.rows[0] = 9;
  assert.is(imageKey(theirs.source.images, 0), 'c/1.jpg');
  assert.equal([theirs.items[0], theirs.labels[0], theirs.source.meshes.rows[0]], [9, 9, 9]);
  assert.is(data.items[0], 0);
});

test('of many jobs few are taken before one is done', async () => {
  const pool = new WorkerPool(1, {});
  let [taken, done] = [0, 0];
  const jobs = function* () {
    for (; taken < 500; taken++) yield { kind: 'check', begin: 0, end: 0 } as const;
  };
  await pool.runAll(jobs(), () => assert.ok(taken - done++ <= 3));
  await pool.close();
  assert.is(done, 500);
});

test('a crop beyond the image is refused', () => {
  assert.throws(() => new Loader(options(faces, { crop: 25 })), /at most the images' 24 pixels, got 25/);
});

test('what there is no memory for is refused', async () => {
  const many = 2 ** 40;
  assert.throws(
    () => new Loader(options(faces, { prefetch: many })),
    /^expected memory for \d+ batches of 5 images \(train\.batch_size, data\.prefetch\), 8\.44 PiB, found less$/,
  );
  assert.throws(
    () => syntheticFaces({ seed: 1, identities: 2 ** 30, imagesPerIdentity: 2, size: 24 }),
    /^expected fewer than 2147483648 images to generate .*, got 1073741824 x 2$/,
  );
  const large = new FaceSet({ ...faces.data, size: 2 ** 22 });
  await fails(
    () => renderAhead(large, { workers: 0 }),
    /^expected memory for 12 generated faces of 4194304 pixels \(data\.identities, data\.images_per_identity\)/,
  );
});

test('a contact sheet shows normalised images as they were', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'turl-sheet-'));
  try {
    const file = join(folder, 'sheet.png');
    const images = new Float32Array(3 * 4 * 4 * 3).fill((200 - 127.5) / 128);
    const { width, height } = await writeContactSheet(file, {
      images,
      size: 4,
      mean: 127.5,
      scale: 128,
      labels: ['one', 'two & <three>', ''],
      columns: 2,
      zoom: 2,
    });
    const { data, info } = await sharp(file).removeAlpha().raw().toBuffer({ resolveWithObject: true });
    assert.equal([info.width, info.height], [width, height]);
    assert.equal([width, height], [20, 48]);
    assert.equal([...data.subarray((3 * width + 3) * 3, (3 * width + 3) * 3 + 3)], [200, 200, 200]);
  } finally {
    rmSync(folder, { recursive: true });
  }
});

test.run();
