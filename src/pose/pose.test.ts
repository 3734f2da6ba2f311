import { cpSync, existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import sharp from 'sharp';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { openDetector, type DetectedFace } from '../align/detector.js';
import { canonicalFace, headFrame, meshFivePoints, meshPoints, meshYaw } from '../align/mesh.js';
import { openArchive } from '../data/formats/archive.js';
import { pack } from '../data/pack.js';
import { configSchema } from '../config/schema.js';
import { openDataset } from '../data/dataset.js';
import { openReader } from '../data/face-set.js';
import { copyBatch, type Batch } from '../data/loader.js';
import { openPhotographs } from '../data/photographs.js';
import { FaceRenderer } from '../data/synthetic/render.js';
import { evaluate } from '../evaluate/evaluate.js';
import { device } from '../tensor/device.js';
import { Experiment } from '../train/experiment.js';
import { trainingLoader } from '../train/network-input.js';
import { Background } from './background.js';
import { fitMeshes } from './fit.js';
import { headTopology } from './head.js';
import { MeshReader } from './mesh-file.js';
import { FaceTurner } from './turn.js';

const test = suite('pose of photographs');
const size = 112;
const bytes = size * size * 3;

/** Generated faces that look at the camera stand for photographs; what is known of them is only what the detector finds. */
function faces(count: number): { pixels: Uint8Array; face: DetectedFace }[] {
  const renderer = new FaceRenderer(7, size);
  const pictures = Array.from({ length: count }, (_, i) => {
    const pixels = new Uint8Array(bytes);
    renderer.render(i, 0, pixels, 0);
    return { width: size, height: size, pixels };
  });
  const detector = openDetector(device('cpu'));
  const found = detector.detect(pictures);
  detector.dispose();
  return pictures.flatMap(({ pixels }, i) => (found[i]?.[0] ? [{ pixels, face: found[i][0] }] : []));
}

test('the neutral face: a disc of triangles that all face the viewer, and mirrored points', () => {
  const { positions, triangles, mirror } = canonicalFace();
  assert.is(positions.length, meshPoints * 3);
  assert.is(triangles.length, 898 * 3);
  mirror.forEach((j, i) => assert.is(mirror[j], i));
  const { border, triangles: all, points } = headTopology();
  assert.is(border.length, 36);
  assert.ok(all.every((i) => i < points));
  // In the picture's frame: y down, z away.
  const mesh = positions.map((value, i) => (i % 3 === 0 ? value : -value));
  const { right, down, back } = headFrame(mesh);
  [right, down, back].forEach((axis, k) =>
    axis.forEach((value, i) => assert.ok(Math.abs(value - Number(i === k)) < 0.1)),
  );
  for (const yaw of [-50, -10, 0, 30]) {
    const [cos, sin] = [Math.cos((yaw * Math.PI) / 180), Math.sin((yaw * Math.PI) / 180)];
    const turned = mesh.slice();
    for (let i = 0; i < turned.length; i += 3) {
      const [x, z] = [mesh[i] ?? 0, mesh[i + 2] ?? 0];
      turned[i] = x * cos - z * sin;
      turned[i + 2] = x * sin + z * cos;
    }
    assert.ok(Math.abs(meshYaw(turned) - yaw) < 1e-3, String(meshYaw(turned)));
  }
});

test('a face turned by nothing is the photograph; a turned one has its points, and the yaw that was asked for', () => {
  const turner = new FaceTurner(size);
  const out = new Uint8Array(bytes);
  const list = faces(12);
  assert.ok(list.length >= 10);
  const detector = openDetector(device('cpu'));
  const errors: number[] = [];
  list.forEach(({ pixels, face }, i) => {
    turner.turn(pixels, face.mesh, face.yaw, out);
    // Inside of the face, where the head's surface is what is seen.
    let difference = 0;
    for (let y = 45; y < 85; y++)
      for (let x = 40; x < 72; x++)
        difference += Math.abs((out[(y * size + x) * 3] ?? 0) - (pixels[(y * size + x) * 3] ?? 0));
    assert.ok(difference / (40 * 32) < 2, `mean difference ${difference / (40 * 32)}`);
    const yaw = (i % 2 ? 1 : -1) * 30;
    turner.turn(pixels, face.mesh, yaw, out);
    const [[again] = []] = detector.detect([{ width: size, height: size, pixels: out }]);
    if (again) errors.push(again.yaw - yaw);
  });
  detector.dispose();
  assert.ok(errors.length >= list.length - 2, `${errors.length} of ${list.length} found again`);
  // The detector itself is off by some degrees on generated faces.
  const mean = errors.reduce((sum, e) => sum + Math.abs(e), 0) / errors.length;
  assert.ok(mean < 8, `mean error ${mean}: ${errors.map((e) => e.toFixed(0)).join(' ')}`);
});

test('behind a head is the photograph where it shows, and elsewhere what goes on from there', () => {
  const side = 64;
  const photograph = new Uint8Array(side * side * 3);
  const circle = Float32Array.from({ length: 36 * 3 }, (_, i) => {
    const angle = (Math.floor(i / 3) * Math.PI) / 18;
    return i % 3 === 2 ? 0 : 30 + 16 * (i % 3 === 0 ? Math.cos(angle) : Math.sin(angle));
  });
  const outline = Uint16Array.from({ length: 36 }, (_, i) => i);
  const background = (i: number) => {
    const [x, y] = [Math.floor(i / 3) % side, Math.floor(i / 3 / side)];
    return { value: 40 + [x, y, 2 * x][i % 3]!, distance: Math.hypot(x - 30, y - 30) / 16 };
  };
  photograph.forEach((_, i) => {
    const { value, distance } = background(i);
    photograph[i] = distance < 0.9 ? 255 : value;
  });
  const behind = new Background(side);
  // Of what was there before nothing stays.
  for (const one of [photograph.map(() => 200), photograph]) behind.fill(one, circle, outline);
  const out = new Uint8Array(photograph.length).fill(9);
  const cover = Float32Array.from({ length: side * side }, (_, p) => (p % side === 30 ? 1 : 0));
  behind.putBehind(out, cover);
  out.forEach((got, i) => {
    const { value, distance } = background(i);
    if (cover[Math.floor(i / 3)] === 1) assert.is(got, 9);
    else if (distance > 1.3) assert.is(got, value);
    else assert.ok(Math.abs(got - value) < 12, `${got} for ${value} at ${distance} radii`);
  });
});

test('turning left is the mirror image of turning right', () => {
  const [one] = faces(1);
  assert.ok(one);
  const flip = (pixels: Uint8Array) => {
    const mirrored = new Uint8Array(bytes);
    for (let p = 0; p < size * size; p++) {
      const q = p - (p % size) + size - 1 - (p % size);
      mirrored.set(pixels.subarray(p * 3, p * 3 + 3), q * 3);
    }
    return mirrored;
  };
  const { mirror } = canonicalFace();
  const mesh = Float32Array.from(one.face.mesh, (_, i) => {
    const value = one.face.mesh[(mirror[Math.floor(i / 3)] ?? 0) * 3 + (i % 3)] ?? 0;
    return i % 3 === 0 ? size - 1 - value : value;
  });
  const turner = new FaceTurner(size);
  const [right, left] = [new Uint8Array(bytes), new Uint8Array(bytes)];
  turner.turn(one.pixels, one.face.mesh, 45, right);
  turner.turn(flip(one.pixels), mesh, -45, left);
  const back = flip(left);
  const difference = right.reduce((sum, value, i) => sum + Math.abs(value - (back[i] ?? 0)), 0) / bytes;
  // Edges are softened from left to right, and the background's angles are in bins.
  assert.ok(difference < 2.5, String(difference));
});

test('meshes are fitted once, kept beside the set, and refused for images that have changed', async () => {
  const root = mkdtempSync(join(tmpdir(), 'turl-fit-'));
  try {
    const path = join(root, 'set');
    const renderer = new FaceRenderer(7, size);
    const pixels = new Uint8Array(bytes);
    const save = async (file: string, data: Uint8Array) => {
      mkdirSync(join(path, file, '..'), { recursive: true });
      await sharp(data, { raw: { width: size, height: size, channels: 3 } })
        .png()
        .toFile(join(path, file));
    };
    for (const [file, yaw] of [
      ['a/1.png', 0],
      ['a/2.png', 42],
      ['b/1.png', -3],
    ] as const) {
      renderer.render(file.startsWith('a') ? 1 : 2, 0, pixels, yaw);
      await save(file, pixels);
    }
    await save('b/2.png', new Uint8Array(bytes).fill(100));
    // Where the meshes cannot go is found out before any image is looked at.
    const nowhere = { to: join(root, 'none/x'), workers: 0, onProgress: () => assert.unreachable() };
    await fitMeshes(await openArchive(path), device('cpu'), nowhere).then(
      () => assert.unreachable(),
      (error: Error) => assert.match(error.message, /^cannot write .*none\/x: no such file or folder$/),
    );
    const fitted = await fitMeshes(await openArchive(path), device('cpu'), { workers: 1 });
    assert.equal([fitted.images, fitted.frontal, fitted.turned], [4, 2, 1]);
    assert.match(fitted.without.join(), /b\/2\.png$/);
    // What cannot be decoded is named with the reason, not counted among the images without a face.
    const bad = join(root, 'bad/a');
    mkdirSync(bad, { recursive: true });
    writeFileSync(join(bad, '1.png'), 'no image');
    const { without, broken } = await fitMeshes(await openArchive(join(root, 'bad')), device('cpu'), {
      workers: 0,
    });
    assert.equal(without, []);
    assert.match(JSON.stringify(broken), /a\/1\.png","reason":"expected JPEG/);

    const { faces: set } = await openPhotographs(path, { size: 56, workers: 0, cache: null });
    assert.equal(
      [0, 1, 2, 3].map((i) => set.canTurn(i)),
      [true, false, true, false],
    );
    for (const name of ['set.rec', 'set.parquet']) {
      const file = join(root, name);
      await pack(await openArchive(path), file);
      await fitMeshes(await openArchive(file), device('cpu'), { workers: 0 });
      assert.ok(existsSync(`${file}.meshes.safetensors`), name);
      const { faces } = await openPhotographs(file, { size: 56, workers: 0, cache: null });
      assert.ok(faces.canTurn(0), name);
    }
    const reader = openReader(set);
    const [plain, turned, again] = [0, 1, 2].map(() => new Uint8Array(56 * 56 * 3)) as [
      Uint8Array,
      Uint8Array,
      Uint8Array,
    ];
    reader.read(0, plain);
    reader.readTurned(0, turned, 50);
    reader.read(0, again, 50);
    assert.equal(turned, again);
    assert.is.not(String(turned), String(plain));
    assert.throws(() => reader.readTurned(1, turned, 50), /a\/2\.png: there is no mesh of this image/);

    // The stored mesh is the detector's to a hundredth of a pixel.
    if (set.data.source.kind !== 'photographs' || !set.data.source.meshes) throw new Error('no meshes');
    const image = readFileSync(join(path, 'a/1.png'));
    const stored = new MeshReader(set.data.source.meshes).mesh(0, image, size);
    renderer.render(1, 0, pixels, 0);
    const detector = openDetector(device('cpu'));
    const [[face] = []] = detector.detect([{ width: size, height: size, pixels }]);
    detector.dispose();
    const points = meshFivePoints(stored);
    face?.points.forEach(([x, y], k) =>
      assert.ok(Math.hypot(x - (points[k]?.[0] ?? 0), y - (points[k]?.[1] ?? 0)) < 0.02),
    );

    cpSync(join(path, 'b/1.png'), join(path, 'a/1.png'));
    assert.throws(
      () => openReader(set).readTurned(0, turned, 50),
      /a\/1\.png: the mesh in .* is of another image: run turl data fit again/,
    );
    writeFileSync(join(path, 'b/3.png'), 'one more');
    const failure = await openPhotographs(path, { size: 56, workers: 0, cache: null }).then(
      () => '',
      (error: Error) => error.message,
    );
    assert.match(failure, /expected the meshes of 5 images, found those of 4; run turl data fit again/);
  } finally {
    rmSync(root, { recursive: true });
  }
});

test('training batches and evaluation turn the faces that can be turned, whatever the number of workers', async () => {
  const root = mkdtempSync(join(tmpdir(), 'turl-turn-'));
  try {
    // Eight identities with two images each; the second one of every fourth is turned already.
    const renderer = new FaceRenderer(7, size);
    const pixels = new Uint8Array(bytes);
    for (let identity = 0; identity < 8; identity++)
      for (const image of [0, 1]) {
        renderer.render(identity, image, pixels, image === 1 && identity % 4 === 0 ? 45 : 0);
        mkdirSync(join(root, `id${identity}`), { recursive: true });
        await sharp(pixels, { raw: { width: size, height: size, channels: 3 } })
          .png()
          .toFile(join(root, `id${identity}`, `${image}.png`));
      }
    const fitted = await fitMeshes(await openArchive(root), device('cpu'), { workers: 0 });
    assert.ok(fitted.frontal >= 12 && fitted.turned >= 1, JSON.stringify(fitted));

    const config = configSchema.parse({
      name: 'test',
      model: {
        name: 'iresnet-small',
        input_size: 32,
        embedding_size: 32,
        channels: [4, 4, 8, 8],
        blocks: [1, 1, 1, 1],
      },
      data: { source: 'photographs', path: root, image_size: 36, min_images_per_identity: 1, workers: 0 },
      loss: { groups: 4 },
      augment: { pose: { probability: 0.6 } },
      train: { batch_size: 8 },
      evaluate: { folds: 2 },
    });
    const { train } = await openDataset(config);
    const take = async (workers: number) => {
      const loader = trainingLoader({ ...config, data: { ...config.data, workers } }, train, 0);
      const batches: Batch[] = [];
      for (let i = 0; i < 6; i++) batches.push(copyBatch(await loader.next()));
      await loader.close();
      return batches;
    };
    const wanted = await take(0);
    assert.equal(await take(1), wanted);
    assert.equal(await take(3), wanted);
    const plain = new Uint8Array(36 * 36 * 3);
    const reader = openReader(train);
    let turned = 0;
    for (const batch of wanted)
      batch.images.forEach((image, i) => {
        reader.read(image, plain);
        const same = plain.every((value, k) => value === batch.pixels[i * plain.length + k]);
        const pose = batch.variations[i * 3 + 2] === 1;
        assert.is(same, !pose);
        if (pose) assert.ok(train.canTurn(image));
        turned += Number(pose);
      });
    // 48 images, most of which can be turned, at 0.6: five standard deviations below the mean.
    assert.ok(turned > 8, String(turned));

    // Pairs: (a, b) of one identity in one fold each, and of neighbours.
    const experiment = new Experiment(config, train.identities);
    const identities = Array.from({ length: 8 }, (_, i) => i);
    const test = {
      dataset: train,
      pairs: {
        first: Int32Array.from([...identities, ...identities], (i) => 2 * i),
        second: Int32Array.from([
          ...identities.map((i) => 2 * i + 1),
          ...identities.map((i) => 2 * ((i + 1) % 8)),
        ]),
        genuine: Array.from({ length: 16 }, (_, i) => i < 8),
        fold: Int32Array.from({ length: 16 }, (_, i) => Math.floor((i % 8) / 4)),
      },
      failures: 0,
      data: 'test',
      rule: 'test',
    };
    const usable = [...test.pairs.first.keys()].filter(
      (i) => train.canTurn(test.pairs.first[i] ?? -1) && train.canTurn(test.pairs.second[i] ?? -1),
    ).length;
    assert.ok(usable < 16 && usable >= 8, String(usable));
    const { rows, leftOut } = await evaluate(experiment, test, [{}, { yaw: 50 }]);
    experiment.dispose();
    assert.equal(leftOut, []);
    assert.equal(
      rows.map(({ version, verification: v }) => [version, v.genuinePairs + v.impostorPairs]),
      [
        ['clean', 16],
        ['yaw=50', usable],
      ],
    );
  } finally {
    rmSync(root, { recursive: true });
  }
});

test.run();
