import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { InferenceSession, Tensor as OrtTensor } from 'onnxruntime-node';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { configFrom } from '../config/index.js';
import { augmentColumns, encodeAugmentation } from '../data/augment.js';
import { assertClose, randomValues } from '../testing.js';
import { saveCheckpoint } from '../train/checkpoint.js';
import { Experiment } from '../train/experiment.js';
import { RunDirectory } from '../train/run-directory.js';
import { readSafetensors } from '../train/safetensors.js';
import { exportRun, onnxOf } from './index.js';
import { modelType } from './onnx-format.js';

const test = suite('export');

/** An untrained experiment whose every number is random, so that nothing wrong can hide behind ones and zeros. */
function experimentOf(model: Record<string, unknown>, loss: Record<string, unknown>): Experiment {
  const config = configFrom({
    model,
    data: {
      source: 'synthetic',
      identities: 4,
      image_size: Number(model['input_size']) + 4,
      pixel_mean: 120,
    },
    loss,
  });
  const experiment = new Experiment(config, 4);
  const modules = [experiment.backbone, ...(experiment.loss.confidence ? [experiment.loss.confidence] : [])];
  let seed = 1;
  for (const module of modules)
    for (const [name, t] of module.state()) {
      if (t.rank > 1 && !name.includes('onfidence') && t.shape.length === 4) continue; // filters are random already
      const values = randomValues(t.size, seed++);
      const of =
        name.endsWith('variance') || name.endsWith('gamma')
          ? (u: number) => 1 + 0.5 * u
          : (u: number) => 0.2 * u;
      t.set(Float32Array.from(values, (u, i) => (t.rank > 1 ? (t.toArray()[i] ?? 0) + 0.01 * u : of(u))));
    }
  return experiment;
}

const small = { input_size: 32, embedding_size: 16 };
const models: [string, Record<string, unknown>][] = [
  ['small IResNet', { ...small, name: 'iresnet-small', channels: [4, 8, 8, 16], blocks: [1, 2, 1, 1] }],
  ['MobileFaceNet', { ...small, name: 'mobilefacenet' }],
  ['IResNet-18', { ...small, name: 'iresnet18' }],
];

for (const [name, model] of models)
  for (const input of ['normalised', 'bytes'] as const)
    test(`${name}, ${input}: onnxruntime gives what turl gives`, async () => {
      const experiment = experimentOf(model, { groups: 4 });
      const side = small.input_size;
      const { file, inputs, outputs } = onnxOf(experiment, input);
      const session = await InferenceSession.create(file, { logSeverityLevel: 3 });
      assert.equal([...session.inputNames], ['images']);
      assert.equal(
        [...session.outputNames],
        outputs.map((output) => output.name),
      );
      assert.is(inputs.length, 1);
      for (const images of [1, 3]) {
        const full = side + 4;
        const pixels = Uint8Array.from(randomValues(images * full * full * 3, 7), (u) => 127.5 + 127 * u);
        const parameters = new Int32Array(images * augmentColumns);
        for (let i = 0; i < images; i++)
          encodeAugmentation(parameters, i, { top: 2, left: 2, flip: false, blur: 0, occluded: [] });
        const expected = experiment.embed(pixels, parameters);
        // The centre, as another program would cut it out.
        const centre = Uint8Array.from({ length: images * side * side * 3 }, (_, i) => {
          const [c, x] = [i % 3, Math.floor(i / 3) % side];
          const [y, n] = [Math.floor(i / 3 / side) % side, Math.floor(i / 3 / side / side)];
          return pixels[((n * full + y + 2) * full + x + 2) * 3 + c] ?? 0;
        });
        const feed =
          input === 'bytes'
            ? new OrtTensor('uint8', centre, [images, side, side, 3])
            : new OrtTensor(
                'float32',
                Float32Array.from({ length: centre.length }, (_, i) => {
                  const [x, y] = [i % side, Math.floor(i / side) % side];
                  const [c, n] = [Math.floor(i / side / side) % 3, Math.floor(i / side / side / 3)];
                  return ((centre[((n * side + y) * side + x) * 3 + c] ?? 0) - 120) / 127.5;
                }),
                [images, 3, side, side],
              );
        const found = await session.run({ images: feed });
        // The bound; sums of some thousand float32 in another order differ by 1e-6.
        assertClose(found['embedding']?.data as Float32Array, expected.embedding, 1e-4, 'embedding');
        assertClose(found['confidence']?.data as Float32Array, expected.confidence ?? [], 1e-4, 'confidence');
      }
      experiment.dispose();
    });

test('the file says what goes in; without confidences there is one output', () => {
  const experiment = experimentOf(models[0]?.[1] ?? {}, {
    type: 'cosface',
    groups: 1,
    lambda_cls: 0,
    lambda_adv: 0,
  });
  const { file, outputs } = onnxOf(experiment);
  assert.equal(
    outputs.map(({ name, about }) => [name, about]),
    [['embedding', 'of length 1']],
  );
  const message = modelType.toObject(modelType.decode(file)) as {
    metadata_props: { key: string; value: string }[];
  };
  const metadata = new Map(message.metadata_props.map(({ key, value }) => [key, value]));
  const contract = JSON.parse(metadata.get('turl.input') ?? '') as Record<string, unknown>;
  assert.equal(
    [contract['colour'], contract['mean'], contract['scale'], contract['size']],
    ['RGB', 120, 127.5, 32],
  );
  assert.match(metadata.get('turl.config') ?? '', 'iresnet-small');
  experiment.dispose();
});

test('of a run: ONNX, and weights that are those of the checkpoint; other names are refused', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'turl-export-'));
  try {
    const experiment = experimentOf(models[0]?.[1] ?? {}, { groups: 4 });
    const run = join(folder, 'run');
    const directory = RunDirectory.create({ ...experiment.config, work_dir: run });
    saveCheckpoint(directory, experiment, 1);
    directory.close();
    await exportRun(run, join(folder, 'a.onnx'), 'normalised');
    // The metadata names the run; the graph, weights included, is the same bytes. (A difference of so many is slow to print.)
    const graphOf = (file: Uint8Array) =>
      Buffer.from(modelType.encode({ ...modelType.decode(file), metadata_props: [] }).finish());
    assert.ok(graphOf(readFileSync(join(folder, 'a.onnx'))).equals(graphOf(onnxOf(experiment).file)));
    await exportRun(run, join(folder, 'a.safetensors'), 'normalised');
    const { tensors } = readSafetensors(join(folder, 'a.safetensors'));
    const state = experiment.backbone.state();
    for (const [name, t] of state) {
      const { data = new Uint8Array(), shape } = tensors.get(`network.${name}`) ?? {};
      assert.equal(shape, t.shape, name);
      assert.ok(Buffer.from(data).equals(Buffer.from(t.toBits().buffer)), name);
    }
    assert.is(tensors.size, state.size + 2);
    for (const [out, message] of [
      [join(folder, 'a.pt'), /expected a name that ends in \.onnx, \.safetensors/],
      [join(folder, 'no/a.onnx'), /expected a folder at/],
    ] as const)
      assert.throws(() => exportRun(run, out, 'normalised'), message);
    experiment.dispose();
  } finally {
    rmSync(folder, { recursive: true });
  }
});

test.run();
