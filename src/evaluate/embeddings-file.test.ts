import { spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { randomValues } from '../testing.js';
import { readEmbeddings, writeEmbeddings, type Embeddings } from './embeddings-file.js';

const test = suite<{ folder: string }>('embeddings in files');
test.before.each((context) => {
  context.folder = mkdtempSync(join(tmpdir(), 'turl-embeddings-'));
});
test.after.each(({ folder }) => rmSync(folder, { recursive: true }));

const embeddings: Embeddings = {
  features: {
    embedding: Float32Array.from(randomValues(3 * 4, 1)),
    confidence: Float32Array.from(randomValues(3 * 2, 2), (value) => 2 + value),
    size: 4,
    groups: 2,
  },
  names: ['a/1.jpg', 'a/"2", of b.jpg', 'c/ä.jpg'],
  identities: ['a', 'a', ''],
  about: { model: 'iresnet-small', flip: 'false' },
};

test('safetensors: what was written is read', async ({ folder }) => {
  const file = join(folder, 'x.safetensors');
  assert.equal(await writeEmbeddings(file, embeddings), [file]);
  assert.equal(readEmbeddings(file), embeddings);
  const bare = { ...embeddings, features: { ...embeddings.features, confidence: undefined } };
  await writeEmbeddings(file, bare);
  assert.equal(readEmbeddings(file), bare);
});

test('embeddings and confidences of which no score can be made are refused by the image', async ({
  folder,
}) => {
  const file = join(folder, 'x.safetensors');
  for (const [key, at, value] of [
    ['embedding', 7, NaN],
    ['embedding', 4, -Infinity],
    ['confidence', 2, 0],
    ['confidence', 3, Infinity],
  ] as const) {
    const array = Float32Array.from(embeddings.features[key] ?? []);
    array[at] = value;
    await writeEmbeddings(file, { ...embeddings, features: { ...embeddings.features, [key]: array } });
    assert.throws(
      () => readEmbeddings(file),
      /x\.safetensors: expected finite embeddings, .* found others for image a\/"2", of b\.jpg/,
    );
  }
});

test('NumPy: the header of its format 1.0, then the values; a table of the images', async ({ folder }) => {
  const written = await writeEmbeddings(join(folder, 'x.npy'), embeddings);
  assert.equal(readdirSync(folder).sort(), ['x.confidence.npy', 'x.images.csv', 'x.npy']);
  assert.is(written.length, 3);
  const data = readFileSync(join(folder, 'x.npy'));
  assert.is(data.subarray(0, 8).toString('latin1'), '\x93NUMPY\x01\x00');
  const begin = 10 + data.readUInt16LE(8);
  assert.is(begin, 128);
  const head = data.subarray(10, begin).toString();
  assert.match(head, "{'descr': '<f4', 'fortran_order': False, 'shape': (3, 4), }");
  assert.ok(head.endsWith('\n'));
  assert.equal(new Float32Array(Uint8Array.from(data.subarray(begin)).buffer), embeddings.features.embedding);
  assert.is(
    readFileSync(join(folder, 'x.images.csv'), 'utf8'),
    'image,identity\na/1.jpg,a\n"a/""2"", of b.jpg",a\nc/ä.jpg,\n',
  );
});

test('NumPy: no file is replaced unless all can be, and none is left of another model', async ({
  folder,
}) => {
  const file = join(folder, 'x.npy');
  await writeEmbeddings(file, embeddings);
  const bytesOf = () => readdirSync(folder).map((name) => readFileSync(join(folder, name), 'hex'));
  const before = bytesOf();
  const { confidence, ...features } = embeddings.features;
  const other = { ...embeddings, names: ['d', 'e', 'f'], features: { ...features, confidence: undefined } };
  const blocked = join(folder, `.x.npy.${process.pid}.tmp`);
  mkdirSync(blocked);
  await writeEmbeddings(file, other).then(
    () => assert.unreachable(),
    (error: Error) => assert.match(error.message, /^cannot write .*x\.npy: it is a folder$/),
  );
  rmSync(blocked, { recursive: true });
  assert.equal(bytesOf(), before);
  assert.ok(confidence);
  await writeEmbeddings(file, other);
  assert.equal(readdirSync(folder).sort(), ['x.images.csv', 'x.npy']);
});

test('CSV: numbers that read back as they were', async ({ folder }) => {
  const file = join(folder, 'x.csv');
  await writeEmbeddings(file, embeddings);
  const [head = '', first = ''] = readFileSync(file, 'utf8').split('\n');
  assert.is(head, 'image,identity,s0,s1,f0,f1,f2,f3');
  const { embedding, confidence } = embeddings.features;
  assert.equal(
    Float32Array.from(first.split(',').slice(2), Number),
    Float32Array.of(...(confidence ?? []).slice(0, 2), ...embedding.slice(0, 4)),
  );
  assert.ok(first.length < 100, first);
});

// Reads with nothing of turl, after numpy's documentation and the specification of safetensors: 8 bytes length, JSON, data.
const reader = `
import io, json, struct, sys, numpy as np
if sys.argv[1].endswith(".npy"):
    arrays = {"array": np.load(sys.argv[1])}
    own = io.BytesIO()
    np.save(own, arrays["array"])
    assert own.getvalue() == open(sys.argv[1], "rb").read(), "np.save writes other bytes"
else:
    data = open(sys.argv[1], "rb").read()
    begin = 8 + struct.unpack("<Q", data[:8])[0]
    header = json.loads(data[8:begin])
    arrays = {}
    for name, entry in header.items():
        if name == "__metadata__": continue
        first, last = (begin + offset for offset in entry["data_offsets"])
        kind = {"F32": "<f4", "U8": "u1"}[entry["dtype"]]
        arrays[name] = np.frombuffer(data[first:last], kind).reshape(entry["shape"])
    assert json.loads(arrays.pop("images").tobytes())["names"][2] == "c/\u00e4.jpg"
print(json.dumps({name: [str(a.dtype), list(a.shape), a.astype(float).ravel().tolist()] for name, a in arrays.items()}))
`;
const python = ['python3', '/usr/bin/python3'].find(
  (command) => spawnSync(command, ['-c', 'import numpy']).status === 0,
);
if (!python) console.log('skipped: no python3 with numpy was found');
else
  test('NumPy writes the same bytes, and a reader of safetensors in Python finds the same numbers', async ({
    folder,
  }) => {
    for (const name of ['x.npy', 'x.safetensors']) await writeEmbeddings(join(folder, name), embeddings);
    const embedding = ['float32', [3, 4], [...embeddings.features.embedding]];
    const confidence = ['float32', [3, 2], [...(embeddings.features.confidence ?? [])]];
    for (const [name, expected] of [
      ['x.npy', { array: embedding }],
      ['x.confidence.npy', { array: confidence }],
      ['x.safetensors', { embedding, confidence }],
    ] as const) {
      const { stdout, stderr } = spawnSync(python, ['-c', reader, join(folder, name)], { encoding: 'utf8' });
      assert.is(stderr, '');
      assert.equal(JSON.parse(stdout), expected);
    }
  });

test('another name, another file: one sentence, nothing left behind', async ({ folder }) => {
  const message = async (f: () => unknown) => {
    try {
      await f();
    } catch (error) {
      return error instanceof Error ? error.message : '';
    }
    return '';
  };
  assert.match(
    await message(() => writeEmbeddings(join(folder, 'x.txt'), embeddings)),
    /ends in \.safetensors/,
  );
  assert.match(
    await message(() => writeEmbeddings(join(folder, 'no/x.csv'), embeddings)),
    /expected a folder at/,
  );
  const other = join(folder, 'y.safetensors');
  writeFileSync(other, 'hello');
  assert.match(await message(() => readEmbeddings(other)), 'y.safetensors');
  assert.equal(readdirSync(folder), ['y.safetensors']);
});

test.run();
