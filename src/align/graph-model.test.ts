import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { assertClose, devices, randomValues } from '../testing.js';
import { tensor } from '../tensor/tensor.js';
import { device } from '../tensor/device.js';
import { GraphModel } from './graph-model.js';

const test = suite('graph model');
const folder = mkdtempSync(join(tmpdir(), 'turl-graph-'));
const text = (s: string) => Buffer.from(s).toString('base64');

// Convolution (3x3, stride 2, SAME, bias, ReLU), depthwise (3x3), zero channels after, PReLU, addition, pooling.
const weights = [
  { name: 'w', shape: [3, 3, 2, 4], dtype: 'float32' },
  { name: 'b', shape: [4], dtype: 'float32' },
  { name: 'd', shape: [3, 3, 4, 1], dtype: 'float32' },
  { name: 's', shape: [1, 1, 6], dtype: 'float32' },
  { name: 'p', shape: [4, 2], dtype: 'int32' },
] as const;
const sizes = weights.map(({ shape }) => shape.reduce((a: number, b: number) => a * b, 1));
const values = sizes.map((n, i) => (i === 4 ? [0, 0, 0, 0, 0, 0, 0, 2] : [...randomValues(n, i)]));
const node = (name: string, op: string, input: string[], attr: Record<string, unknown> = {}) => ({
  name,
  op,
  input,
  attr,
});
const strides = (n: number) => ({ strides: { list: { i: ['1', String(n), String(n), '1'] } } });
const graph = {
  modelTopology: {
    node: [
      node('x', 'Placeholder', []),
      ...weights.map(({ name }) => node(name, 'Const', [])),
      node('c', '_FusedConv2D', ['x', 'w', 'b'], {
        ...strides(2),
        padding: { s: text('SAME') },
        fused_ops: { list: { s: [text('BiasAdd'), text('Relu')] } },
      }),
      node('e', 'DepthwiseConv2dNative', ['c', 'd'], { ...strides(1), padding: { s: text('SAME') } }),
      node('f', 'Pad', ['e', 'p']),
      node('g', 'Prelu', ['f', 's']),
      node('h', 'AddV2', ['g', 'f']),
      node('i', 'MaxPool', ['h'], { ...strides(2), ksize: { list: { i: ['1', '2', '2', '1'] } } }),
      node('out', 'Identity', ['i']),
    ],
  },
  weightsManifest: [{ paths: ['m.bin'], weights }],
};
writeFileSync(join(folder, 'm.json'), JSON.stringify(graph));
const bytes = Buffer.alloc(4 * sizes.reduce((a, b) => a + b));
let at = 0;
values.forEach((list, i) =>
  list.forEach((value) => (at = i === 4 ? bytes.writeInt32LE(value, at) : bytes.writeFloatLE(value, at))),
);
writeFileSync(join(folder, 'm.bin'), bytes);

/** The same network, written out. x [8, 8, 2]; result [2, 2, 6]. */
function reference(x: ArrayLike<number>): number[] {
  const [w = [], b = [], d = [], s = []] = values;
  const get = (list: ArrayLike<number>, i: number) => list[i] ?? 0;
  const inside = (i: number, n: number) => i >= 0 && i < n;
  // SAME at stride 2 on an even side: nothing before, one zero after.
  const c = Array.from({ length: 4 * 4 * 4 }, (_, n) => {
    const [i, j, o] = [n >> 4, (n >> 2) & 3, n & 3];
    let sum = get(b, o);
    for (let u = 0; u < 3; u++)
      for (let v = 0; v < 3; v++)
        for (let k = 0; k < 2; k++)
          if (inside(2 * i + u, 8) && inside(2 * j + v, 8))
            sum += get(x, ((2 * i + u) * 8 + 2 * j + v) * 2 + k) * get(w, ((u * 3 + v) * 2 + k) * 4 + o);
    return Math.max(0, sum);
  });
  const h = Array.from({ length: 4 * 4 * 6 }, (_, n) => {
    const [i, j, k] = [Math.floor(n / 24), Math.floor(n / 6) % 4, n % 6];
    if (k >= 4) return 0;
    let sum = 0;
    for (let u = -1; u <= 1; u++)
      for (let v = -1; v <= 1; v++)
        if (inside(i + u, 4) && inside(j + v, 4))
          sum += get(c, ((i + u) * 4 + j + v) * 4 + k) * get(d, ((u + 1) * 3 + v + 1) * 4 + k);
    return sum + (sum > 0 ? sum : sum * get(s, k));
  });
  return Array.from({ length: 2 * 2 * 6 }, (_, n) => {
    const [i, j, k] = [Math.floor(n / 12), Math.floor(n / 6) % 2, n % 6];
    return Math.max(
      ...[0, 1].flatMap((u) => [0, 1].map((v) => get(h, ((2 * i + u) * 4 + 2 * j + v) * 6 + k))),
    );
  });
}

for (const where of devices)
  test(`a graph gives what its operations mean on ${where.name}`, () => {
    const x = randomValues(2 * 8 * 8 * 2, 9);
    const model = new GraphModel(join(folder, 'm.json'), where);
    const input = tensor(Float32Array.from(x), [2, 8, 8, 2], { device: where });
    const before = where.statistics().live;
    const result = model.run(input).get('out') ?? new Float32Array(0);
    assert.is(where.statistics().live, before);
    // Sums of 18 products below 1 in float32.
    assertClose(result, [...reference(x.slice(0, 128)), ...reference(x.slice(128))], 1e-5, 'out');
    input.dispose();
    model.dispose();
  });

test('half-precision weights are widened', () => {
  const half = structuredClone(graph) as { modelTopology: { node: unknown[] }; weightsManifest: unknown[] };
  half.modelTopology.node = [
    node('x', 'Placeholder', []),
    node('s', 'Const', []),
    node('g', 'Prelu', ['x', 's']),
    node('out', 'Identity', ['g']),
  ];
  half.weightsManifest = [
    {
      paths: ['h.bin'],
      weights: [{ name: 's', shape: [4], dtype: 'float32', quantization: { dtype: 'float16' } }],
    },
  ];
  writeFileSync(join(folder, 'h.json'), JSON.stringify(half));
  writeFileSync(join(folder, 'h.bin'), Buffer.from(Uint16Array.of(0x3c00, 0xc000, 0x3555, 0x0001).buffer));
  const model = new GraphModel(join(folder, 'h.json'), device('cpu'));
  const input = tensor(Float32Array.of(-1, -1, -1, -1), [1, 1, 1, 4]);
  assertClose([...(model.run(input).get('out') ?? [])], [-1, 2, -0.333251953125, -(2 ** -24)], 0, 'out');
  input.dispose();
  model.dispose();
});

test('what is no model, is cut off or has an unknown operation is named', () => {
  const open = (name: string) => () => new GraphModel(join(folder, name), device('cpu'));
  writeFileSync(join(folder, 'none.json'), 'none');
  assert.throws(open('none.json'), /none\.json: expected a TensorFlow\.js graph model, found none/);
  const odd = structuredClone(graph);
  odd.modelTopology.node.push(node('z', 'Erf', ['i']));
  writeFileSync(join(folder, 'odd.json'), JSON.stringify(odd));
  assert.throws(open('odd.json'), /the operation Erf of z is not known/);
  writeFileSync(join(folder, 'm.bin'), bytes.subarray(0, 100));
  assert.throws(open('m.json'), /expected weights of w at byte 0, found the end of m\.bin/);
});

test.after(() => rmSync(folder, { recursive: true }));
test.run();
