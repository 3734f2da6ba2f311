import { createHash } from 'node:crypto';
import {
  chmodSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { UserError } from '../tensor/errors.js';
import {
  bytesInParts,
  readForeignTensors,
  readSafetensors,
  readSafetensorsMetadata,
  readTensors,
  writeSafetensors,
  type TensorSource,
} from './safetensors.js';

const test = suite<{ folder: string; file: string }>('safetensors');
test.before.each((context) => {
  context.folder = mkdtempSync(join(tmpdir(), 'turl-safetensors-'));
  context.file = join(context.folder, 'a.safetensors');
});
test.after.each((context) => rmSync(context.folder, { recursive: true }));

const raises = (run: () => unknown, message: RegExp) =>
  assert.throws(run, (error: unknown) => {
    if (!(error instanceof UserError)) throw error;
    assert.match(error.message, message);
    return true;
  });

const bytes = (array: Float32Array | Float64Array) => new Uint8Array(array.buffer);
const sample = new Map<string, TensorSource>([
  ['mask', { dtype: 'uint8', shape: [3], data: Uint8Array.of(1, 0, 1) }],
  [
    'weight',
    { dtype: 'float32', shape: [2, 2], data: () => bytesInParts(Float32Array.of(1, -2.5, NaN, Infinity), 6) },
  ],
  ['half', { dtype: 'bfloat16', shape: [1], data: Uint8Array.of(0x80, 0x3f) }],
  ['scalar', { dtype: 'float64', shape: [], data: bytes(Float64Array.of(Math.PI)) }],
  ['empty', { dtype: 'int32', shape: [0, 7], data: new Uint8Array(0) }],
]);
const metadata = { step: '12', 'odd "sha256":"': 'ü\n"sha256":"' };

test('what is written is read: all types, shapes, metadata', ({ file, folder }) => {
  writeSafetensors(file, sample, metadata);
  const read = readSafetensors(file);
  assert.equal(read.metadata, metadata);
  assert.equal(readSafetensorsMetadata(file), metadata);
  assert.equal(new Set(read.tensors.keys()), new Set(sample.keys()));
  for (const [name, { dtype, shape, data }] of sample) {
    const tensor = read.tensors.get(name)!;
    assert.equal([tensor.dtype, tensor.shape], [dtype, shape]);
    assert.equal([...tensor.data], [...(typeof data === 'function' ? Buffer.concat([...data()]) : data)]);
    assert.is(tensor.data.byteOffset, 0, 'its bytes can be viewed as numbers');
  }
  assert.equal(readdirSync(folder), ['a.safetensors']);
});

test('the layout is that of the format', ({ file }) => {
  writeSafetensors(file, sample, metadata);
  const raw = readFileSync(file);
  const length = Number(raw.readBigUInt64LE());
  const header = JSON.parse(raw.toString('utf8', 8, 8 + length)) as Record<
    string,
    { data_offsets: [number, number] }
  >;
  assert.is(length % 8, 0);
  assert.equal(header['weight'], { dtype: 'F32', shape: [2, 2], data_offsets: [8, 24] });
  assert.is(raw.readFloatLE(8 + length + header['weight']!.data_offsets[0] + 4), -2.5);
  const { sha256 } = header['__metadata__'] as unknown as { sha256: string };
  const blank = Buffer.from(raw.toString('latin1').replace(sha256, '0'.repeat(64)), 'latin1');
  assert.is(sha256, createHash('sha256').update(blank).digest('hex'));
});

test('any changed byte and any cut are found', ({ file }) => {
  writeSafetensors(file, sample, metadata);
  const good = readFileSync(file);
  for (let at = 0; at < good.length; at++) {
    const bad = Buffer.from(good);
    bad[at]! ^= 0x10;
    writeFileSync(file, bad);
    raises(() => readSafetensors(file), /a\.safetensors/);
  }
  for (let length = 0; length < good.length; length += 5) {
    writeFileSync(file, good.subarray(0, length));
    raises(() => readSafetensors(file), /is damaged, or not a safetensors file/);
  }
  writeFileSync(file, Buffer.concat([good, Buffer.of(0)]));
  raises(() => readSafetensors(file), /it should have \d+ bytes and has \d+/);
});

test('tensors are given one at a time, and a changed byte is found after the last', ({ file }) => {
  writeSafetensors(file, sample, metadata);
  const all = readSafetensors(file);
  const seen: [string, unknown][] = [];
  assert.equal(
    readTensors(file, (name, tensor) => seen.push([name, tensor])),
    all.metadata,
  );
  assert.equal(seen, [...all.tensors]);
  const bad = readFileSync(file);
  bad[bad.length - 1]! ^= 1;
  writeFileSync(file, bad);
  const names: string[] = [];
  raises(() => readTensors(file, (name) => names.push(name)), /its checksum does not match its content/);
  assert.equal(names, [...all.tensors.keys()]);
});

/** A file with this header, as another program might write it. */
function foreign(file: string, header: unknown, data: Uint8Array): void {
  const text = Buffer.from(typeof header === 'string' ? header : JSON.stringify(header));
  const length = Buffer.alloc(8);
  length.writeBigUInt64LE(BigInt(text.length));
  writeFileSync(file, Buffer.concat([length, text, data]));
}

test('files of other programs: read only when a checksum is not asked for', ({ file }) => {
  foreign(file, { b: { dtype: 'U8', shape: [2], data_offsets: [0, 2] } }, Uint8Array.of(5, 6));
  raises(() => readSafetensors(file), /has no checksum/);
  const { type, shape, data } = readForeignTensors(file).get('b')!;
  assert.equal([type, shape, [...data]], ['U8', [2], [5, 6]]);
});

test('headers that are wrong', ({ file }) => {
  const entry = { dtype: 'U8', shape: [2], data_offsets: [0, 2] };
  for (const [header, message] of [
    ['{', /not JSON/],
    ['\xff', /not JSON/],
    ['[]', /unknown form/],
    ['3', /unknown form/],
    [{ a: { ...entry, shape: [-1] } }, /unknown form/],
    [{ a: { ...entry, more: 1 } }, /unknown form/],
    [{ __metadata__: { n: 3 }, a: entry }, /unknown form/],
    [{ a: { ...entry, shape: [3] } }, /the place of a is wrong/],
    [{ a: { ...entry, data_offsets: [1, 3] } }, /the place of a is wrong/],
    [{ a: { ...entry, data_offsets: [1, 2] } }, /the place of a is wrong/],
    [{ a: entry, b: entry }, /the place of b is wrong/],
    [{ a: { ...entry, dtype: 'F4' } }, /a is of type F4, expected one of F32/],
    [{ a: { ...entry, shape: [2 ** 50], data_offsets: [0, 2 ** 50] } }, /it should have/],
  ] as const) {
    foreign(file, header, Uint8Array.of(5, 6));
    raises(() => readForeignTensors(file), message);
  }
});

test('checkpoints have the types of turl alone', ({ file }) => {
  foreign(file, { a: { dtype: 'F16', shape: [1], data_offsets: [0, 2] } }, Uint8Array.of(5, 6));
  raises(() => readSafetensors(file), /a is of type F16, expected one of F32, BF16, F64, I32, U8$/);
});

test('no file, a folder, no permission', ({ file, folder }) => {
  raises(() => readSafetensors(file), /^cannot read .*: no such file or folder$/);
  raises(() => readSafetensors(folder), /^cannot read .*: it is a folder$/);
  writeSafetensors(file, sample);
  chmodSync(file, 0);
  // The superuser may read everything.
  if (process.getuid?.() !== 0) raises(() => readSafetensors(file), /permission denied$/);
});

test('data of the wrong length is refused before the old file is touched', ({ file }) => {
  writeSafetensors(file, sample);
  const { size } = statSync(file);
  raises(
    () => writeSafetensors(file, new Map([['w', { dtype: 'float32', shape: [3], data: new Uint8Array(4) }]])),
    /w is float32 \[3\], expected 12 bytes, got 4/,
  );
  assert.is(statSync(file).size, size);
  truncateSync(file, size - 1);
  raises(() => readSafetensors(file), /it should have/);
});

test.run();
