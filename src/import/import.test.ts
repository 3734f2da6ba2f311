import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { zipSync } from 'fflate';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { configFrom } from '../config/index.js';
import { augmentColumns } from '../data/augment.js';
import { withRun } from '../evaluate/run.js';
import { onnxOf } from '../export/index.js';
import { Initialiser } from '../nn/initialise.js';
import { buildBackbone } from '../nn/models.js';
import { noGrad } from '../autograd/tape.js';
import { scope } from '../tensor/scope.js';
import { Draws, purposes } from '../tensor/philox.js';
import { UserError } from '../tensor/errors.js';
import { assertClose, randomTensor, randomValues } from '../testing.js';
import { loadWeights, tensorSources } from '../train/checkpoint.js';
import { Experiment } from '../train/experiment.js';
import { prefixed } from '../train/learner.js';
import { findCheckpoint, resumePoint } from '../train/run-directory.js';
import { writeSafetensors } from '../train/safetensors.js';
import { fitUnits } from './fit.js';
import { importWeights, readUnits } from './index.js';
import { readTorchFile, type StateDict } from './torch-file.js';
import { inNetworkOrder, unitsOfOnnx, unitsOfState } from './units.js';

const test = suite<{ folder: string }>('import');
test.before.each((context) => {
  context.folder = mkdtempSync(join(tmpdir(), 'turl-import-'));
});
test.after.each(({ folder }) => rmSync(folder, { recursive: true }));

/** A pickle of protocol 2 of a dictionary of float32 tensors, as PyTorch writes it; `extra` comes before the dictionary's end. */
function pickleOf(state: StateDict, legacy: boolean, extra: Buffer = Buffer.alloc(0)): Buffer {
  const text = (value: string) => {
    const bytes = Buffer.from(value);
    const head = Buffer.from([0x58, 0, 0, 0, 0]);
    head.writeUInt32LE(bytes.length, 1);
    return Buffer.concat([head, bytes]);
  };
  const integer = (value: number) => {
    const out = Buffer.from([0x4a, 0, 0, 0, 0]);
    out.writeInt32LE(value, 1);
    return out;
  };
  const global = (module: string, name: string) => Buffer.from(`c${module}\n${name}\n`);
  const tuple = (...parts: Buffer[]) => Buffer.concat([Buffer.from('('), ...parts, Buffer.from('t')]);
  const call = (f: Buffer, ...parts: Buffer[]) => Buffer.concat([f, tuple(...parts), Buffer.from('R')]);
  const dictionary = () => Buffer.concat([global('collections', 'OrderedDict'), Buffer.from(')R')]);
  const items = [...state].map(([name, { shape, values }], key) => {
    const strides = shape.map((_, axis) => shape.slice(axis + 1).reduce((product, n) => product * n, 1));
    const storage = Buffer.concat([
      tuple(
        text('storage'),
        global('torch', 'FloatStorage'),
        text(String(key)),
        text('cpu'),
        integer(values.length),
        ...(legacy ? [Buffer.from('N')] : []),
      ),
      Buffer.from('Q'),
    ]);
    const tensor = call(
      global('torch._utils', '_rebuild_tensor_v2'),
      storage,
      integer(0),
      tuple(...shape.map(integer)),
      tuple(...strides.map(integer)),
      Buffer.from([0x89]),
      dictionary(),
    );
    return Buffer.concat([text(name), tensor]);
  });
  return Buffer.concat([
    Buffer.from([0x80, 2]),
    dictionary(),
    Buffer.from('('),
    ...items,
    extra,
    Buffer.from('u.'),
  ]);
}

const bytesOf = (values: Float32Array) => new Uint8Array(Uint8Array.from(new Uint8Array(values.buffer)));

function archiveOf(state: StateDict, extra?: Buffer): Uint8Array {
  const storages = [...state.values()].map(({ values }, key): [string, Uint8Array] => [
    `archive/data/${key}`,
    bytesOf(values),
  ]);
  return zipSync(
    { 'archive/data.pkl': pickleOf(state, false, extra), ...Object.fromEntries(storages) },
    { level: 0 },
  );
}

function picklesOf(state: StateDict): Buffer {
  const keys = [...state.keys()].map((_, key) => Buffer.from(`X\x01\0\0\0${key}`, 'latin1'));
  const storages = [...state.values()].map(({ values }) => {
    const length = Buffer.alloc(8);
    length.writeBigUInt64LE(BigInt(values.length));
    return Buffer.concat([length, bytesOf(values)]);
  });
  return Buffer.concat([
    Buffer.from('80028a0a6cfc9c46f9206aa850192e', 'hex'),
    Buffer.from('80024de9032e', 'hex'),
    Buffer.from('80027d2e', 'hex'),
    pickleOf(state, true),
    Buffer.from([0x80, 2, 0x5d, 0x28]),
    ...keys,
    Buffer.from('e.'),
    ...storages,
  ]);
}

const some: StateDict = new Map(
  [[2, 3], [4], [2, 1, 3, 3]].map((shape, i) => {
    const size = shape.reduce((product, n) => product * n, 1);
    return [`layer.${i}`, { shape, values: Float32Array.from(randomValues(size, i + 1)) }];
  }),
);

/** The message of the UserError that f throws; any other error is a fault. */
function complaint(f: () => unknown): string {
  try {
    f();
  } catch (error) {
    if (error instanceof UserError) return error.message;
    throw error;
  }
  return '';
}

test('PyTorch: both forms of file, by name', ({ folder }) => {
  for (const [name, file] of [
    ['a.pt', archiveOf(some)],
    ['b.pth', picklesOf(some)],
  ] as const) {
    writeFileSync(join(folder, name), file);
    assert.equal(readTorchFile(join(folder, name)), some, name);
  }
});

test('PyTorch: what would run something is refused by name, damage is told', ({ folder }) => {
  const file = join(folder, 'a.pt');
  const evil = Buffer.from('X\x01\0\0\0acposix\nsystem\n(X\x04\0\0\0echo\x74R', 'latin1');
  writeFileSync(file, archiveOf(some, evil));
  assert.match(
    complaint(() => readTorchFile(file)),
    /a\.pt: .*found posix\.system, which is not run/,
  );
  writeFileSync(file, 'hello');
  assert.match(
    complaint(() => readTorchFile(file)),
    'found something else',
  );
  assert.match(
    complaint(() => readTorchFile(join(folder, 'none.pt'))),
    'no such file',
  );
});

test('PyTorch: mutations of valid files give a sentence or tensors, no crash', ({ folder }) => {
  const file = join(folder, 'a.pt');
  const draws = new Draws(1, purposes.test, 0, 0);
  const rounds = Number(process.env['TURL_FUZZ'] ?? 1000);
  let refused = 0;
  for (let round = 0; round < rounds; round++) {
    const bytes = Buffer.from(round % 2 ? archiveOf(some) : picklesOf(some));
    for (let k = 0; k <= draws.int(4); k++) bytes[draws.int(bytes.length)] = draws.int(256);
    writeFileSync(file, draws.int(4) === 0 ? bytes.subarray(0, draws.int(bytes.length)) : bytes);
    if (complaint(() => readTorchFile(file)) !== '') refused++;
  }
  assert.ok(refused > rounds / 10 && refused < rounds, `${refused} of ${rounds}`);
});

/** A state dict in the manner of PyTorch, of InsightFace's names, whose numbers are all different. */
function insightFaceState(channels: number[], blocks: number[], side: number, width: number): StateDict {
  const state: StateDict = new Map();
  let seed = 1;
  const add = (name: string, shape: number[], of = (u: number) => 0.3 * u) => {
    const size = shape.reduce((product, n) => product * n, 1);
    state.set(name, { shape, values: Float32Array.from(randomValues(size, seed++), of) });
  };
  const norm = (name: string, n: number) => {
    add(`${name}.weight`, [n], (u) => 1 + 0.5 * u);
    add(`${name}.bias`, [n]);
    add(`${name}.running_mean`, [n]);
    add(`${name}.running_var`, [n], (u) => 1 + 0.5 * u);
  };
  let inputs = channels[0] ?? 0;
  add('conv1.weight', [inputs, 3, 3, 3]);
  norm('bn1', inputs);
  add('prelu.weight', [inputs]);
  channels.forEach((outputs, stage) => {
    for (let i = 0; i < (blocks[stage] ?? 0); i++) {
      const name = `layer${stage + 1}.${i}`;
      norm(`${name}.bn1`, inputs);
      add(`${name}.conv1.weight`, [outputs, inputs, 3, 3]);
      norm(`${name}.bn2`, outputs);
      add(`${name}.prelu.weight`, [outputs]);
      add(`${name}.conv2.weight`, [outputs, outputs, 3, 3]);
      norm(`${name}.bn3`, outputs);
      if (i === 0) {
        add(`${name}.downsample.0.weight`, [outputs, inputs, 1, 1]);
        norm(`${name}.downsample.1`, outputs);
      }
      inputs = outputs;
    }
  });
  norm('bn2', inputs);
  add('fc.weight', [width, inputs * side * side]);
  add('fc.bias', [width]);
  norm('features', width);
  return state;
}

const model = {
  name: 'iresnet-small',
  input_size: 32,
  embedding_size: 8,
  channels: [4, 8, 8, 12],
  blocks: [1, 11, 1, 1],
};
const backboneOf = () =>
  buildBackbone(
    new Initialiser(1),
    configFrom({ model, data: { image_size: 32, path: '.' }, loss: { groups: 4 } }).model,
  );

test('InsightFace’s names: every number comes to its place, whatever the order of the file', () => {
  const state = insightFaceState(model.channels, model.blocks, 2, 8);
  const sorted: StateDict = new Map([...state].sort(([a], [b]) => (a < b ? -1 : 1)));
  assert.equal(
    [...inNetworkOrder(sorted).keys()].map((name) => name.replace(/[^.]*$/, '')),
    [...state.keys()].map((name) => name.replace(/[^.]*$/, '')),
  );
  const [a, b] = [backboneOf(), backboneOf()];
  fitUnits(a, unitsOfState(state, 'x.pt'), { file: 'x', colour: 'RGB' });
  fitUnits(b, unitsOfState(inNetworkOrder(sorted), 'x.pt'), { file: 'x', colour: 'RGB' });
  const here = a.state();
  for (const [name, t] of b.state())
    assert.equal([...t.toArray()], [...(here.get(name)?.toArray() ?? [])], name);
  const value = (name: string, i: number) => state.get(name)?.values[i] ?? NaN;
  // [outputs, inputs, h, w] there, [outputs, h, w, inputs] here: output 3, input 2, row 1, column 2.
  const second = here.get('body.2.residual.layers.1.weight')?.toArray() ?? [];
  assert.is(
    second[((3 * 3 + 1) * 3 + 2) * 4 + 2],
    value('layer2.0.conv1.weight', ((3 * 4 + 2) * 3 + 1) * 3 + 2),
  );
  // Output 5, channel 7, row 1, column 0 of the last map of 12 channels and 2x2.
  const embed = here.get('embed.weight')?.toArray() ?? [];
  assert.is(embed[5 * 48 + (1 * 2 + 0) * 12 + 7], value('fc.weight', 5 * 48 + (7 * 2 + 1) * 2 + 0));
  assert.is(here.get('normalise.beta')?.toArray()[6], value('features.bias', 6));
  // BGR: the first filter's planes in reverse.
  fitUnits(b, unitsOfState(state, 'x.pt'), { file: 'x', colour: 'BGR' });
  assert.is(b.state().get('body.0.layers.0.weight')?.toArray()[0], value('conv1.weight', 2 * 9));
});

test('turl’s own safetensors are refused, and told what to take instead', ({ folder }) => {
  const file = join(folder, 'own.safetensors');
  for (const name of ['iresnet-small', 'mobilefacenet'] as const) {
    const network = buildBackbone(new Initialiser(1), { ...model, name, dropout: 0 });
    writeSafetensors(file, tensorSources(new Map(prefixed('network', network.state()))));
    network.dispose();
    assert.throws(
      () => readUnits(file),
      /own\.safetensors: expected weights of another program, found turl's own: /,
    );
  }
});

test('safetensors: every floating-point type, and what counts something is left out', ({ folder }) => {
  // Seven bits, which all types have.
  const state: StateDict = new Map(
    [...insightFaceState(model.channels, model.blocks, 2, 8)].map(([name, { shape, values }]) => [
      name,
      { shape, values: values.map((value) => Math.round(value * 64) / 64) },
    ]),
  );
  const float = new DataView(new ArrayBuffer(4));
  const bitsOf = (value: number) => (float.setFloat32(0, value), float.getUint32(0));
  const types: Record<string, [bytes: number, write: (out: Buffer, value: number, at: number) => void]> = {
    F32: [4, (out, value, at) => out.writeFloatLE(value, at)],
    F64: [8, (out, value, at) => out.writeDoubleLE(value, at)],
    BF16: [2, (out, value, at) => out.writeUInt16LE(bitsOf(value) >>> 16, at)],
    F16: [
      2,
      (out, value, at) => {
        const [sign, rest] = [(bitsOf(value) >>> 16) & 0x8000, bitsOf(value) & 0x7fffffff];
        out.writeUInt16LE(sign | (rest === 0 ? 0 : (rest - (112 << 23)) >>> 13), at);
      },
    ],
  };
  const file = join(folder, 'x.safetensors');
  for (const [type, [bytes, write]] of Object.entries(types)) {
    const counts = { dtype: 'I64', shape: [], data_offsets: [0, 8] };
    const header: Record<string, unknown> = { 'bn1.num_batches_tracked': counts };
    const parts = [Buffer.alloc(8)];
    let end = 8;
    for (const [name, { shape, values }] of state) {
      const part = Buffer.alloc(values.length * bytes);
      values.forEach((value, i) => write(part, value, i * bytes));
      header[name] = { dtype: type, shape, data_offsets: [end, end + part.length] };
      parts.push(part);
      end += part.length;
    }
    const text = Buffer.from(JSON.stringify(header));
    const length = Buffer.alloc(8);
    length.writeBigUInt64LE(BigInt(text.length));
    writeFileSync(file, Buffer.concat([length, text, ...parts]));
    assert.equal(readUnits(file), unitsOfState(inNetworkOrder(state), file), type);
  }
});

test('a layer that is missing, too many or of another shape is named', () => {
  const good = insightFaceState(model.channels, model.blocks, 2, 8);
  const fit = (state: StateDict) =>
    complaint(() => fitUnits(backboneOf(), unitsOfState(state, 'x.pt'), { file: 'x.pt', colour: 'RGB' }));
  assert.is(fit(good), '');
  assert.match(
    fit(new Map([...good].slice(5))),
    'x.pt: expected a convolution [4, 3, 3, 3], found prelu (prelu [4])',
  );
  assert.match(fit(new Map([...good].slice(0, -4))), 'expected batch normalisation, found no more layers');
  const more: StateDict = new Map([
    ...good,
    ['head.weight', { shape: [3, 8], values: new Float32Array(24) }],
  ]);
  assert.match(fit(more), 'found 1 more, the first head (weight [3, 8])');
  const other = insightFaceState([4, 8, 8, 16], model.blocks, 2, 8);
  assert.match(
    fit(other),
    'expected a convolution [12, 8, 3, 3], found layer4.0.conv1 (weight [16, 8, 3, 3])',
  );
  // As many numbers in another shape, then another number of them.
  for (const [names, shape, expected] of [
    ['conv1.weight', [3, 4, 3, 3], 'a convolution [4, 3, 3, 3], found conv1 (weight [3, 4, 3, 3])'],
    ['fc.weight', [16, 24], 'a linear layer [8, 48], found fc (weight [16, 24])'],
    ['fc.weight', [8, 24], 'a linear layer [8, 48], found fc (weight [8, 24])'],
    ['fc.bias', [7], 'a bias of 8 numbers, found 7 in fc (weight [8, 48])'],
    ['prelu.weight', [3], 'PReLU of 4 numbers, found 3 in prelu (prelu [3])'],
    ['bn1.', [5], 'batch normalisation of 4 numbers, found 5 in bn1 (batch norm [5])'],
  ] as const) {
    const values = new Float32Array(shape.reduce<number>((product, n) => product * n, 1));
    const changed = [...good].map(
      ([name, t]) => [name, name.startsWith(names) ? { shape, values } : t] as const,
    );
    assert.is(fit(new Map(changed)), `x.pt: expected ${expected}`);
  }
});

test('ONNX: what turl exports comes back, and a run of it embeds the same', async ({ folder }) => {
  const config = configFrom({
    model: { name: 'mobilefacenet', input_size: 112, embedding_size: 16 },
    data: { source: 'synthetic', identities: 4, image_size: 112 },
    loss: { type: 'cosface', groups: 1, lambda_reg: 0, lambda_cls: 0, lambda_adv: 0 },
  });
  const experiment = new Experiment(config, 4);
  for (const [name, t] of experiment.backbone.state())
    if (t.rank === 1) {
      const positive = name.endsWith('variance') || name.endsWith('gamma');
      t.set(Float32Array.from(randomValues(t.size, t.size), (u) => (positive ? 1 + 0.5 * u : 0.2 * u)));
    }
  const file = join(folder, 'm.onnx');
  writeFileSync(file, onnxOf(experiment).file);
  assert.ok(unitsOfOnnx(file).length > 100);
  const out = join(folder, 'run');
  const importAgain = () =>
    importWeights(file, { model: 'mobilefacenet', out, colour: 'RGB', mean: 127.5, scale: 127.5 });
  assert.match(
    complaint(() =>
      importWeights(file, { model: 'mobilefacenet', out, colour: 'RGB', mean: 127.5, scale: 0 }),
    ),
    '--scale 0: data.pixel_scale: expected more than 0, got 0',
  );
  assert.is(importAgain(), 16);
  assert.match(complaint(importAgain), /\/run already holds a run: choose another --out$/);
  // Its only step must not be trained over: `from` would not find the network alone any more.
  assert.match(
    complaint(() => resumePoint(out)),
    /found imported weights: start training from them with --set from=/,
  );
  const pixels = Uint8Array.from(randomValues(112 * 112 * 3, 5), (u) => 127 + 120 * u);
  const expected = experiment.embed(pixels, new Int32Array(augmentColumns)).embedding;
  await withRun(out, [], (imported) => {
    // The same numbers in the same order, but for the variance, moved by the difference of two equal epsilons.
    assertClose(imported.embed(pixels, new Int32Array(augmentColumns)).embedding, expected, 1e-6);
    return Promise.resolve();
  });
  // Training that starts from it takes the network and leaves the prototypes new.
  const learner = new Experiment(config, 7);
  const prototypes = [...learner.loss.state().values()].map((t) => [...t.toArray()]);
  loadWeights(findCheckpoint(out).checkpoint.file, learner);
  assert.equal(
    [...learner.loss.state().values()].map((t) => [...t.toArray()]),
    prototypes,
  );
  const [own, other] = [learner, experiment].map(({ backbone }) => {
    backbone.evaluate();
    return noGrad(() => scope(() => backbone.forward(randomTensor([1, 112, 112, 3])).embedding)).toArray();
  });
  assertClose(own ?? [], other ?? [NaN], 1e-5);
  assert.match(
    complaint(() =>
      importWeights(join(folder, 'm.txt'), { model: 'iresnet18', out, colour: 'RGB', mean: 0, scale: 1 }),
    ),
    'expected a name that ends in .onnx',
  );
  writeFileSync(file, readFileSync(file).subarray(0, 999));
  assert.match(
    complaint(() => unitsOfOnnx(file)),
    'm.onnx: expected',
  );
  const slope = new Map([['prelu.slope', { shape: [4], values: new Float32Array(4) }]]);
  assert.is(
    complaint(() => unitsOfState(slope, 'x.pt')),
    'x.pt: expected a convolution, linear layer, batch normalisation or PReLU, found prelu of slope [4]',
  );
});

test.run();
