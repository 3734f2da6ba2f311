// Random damage to valid files of every format: a parser answers with what is there or with a UserError, soon, and without asking for
// memory beyond reason. TURL_FUZZ sets how many files are tried for each parser (npm run fuzz: 100,000).
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setImmediate as nextTurn } from 'node:timers/promises';
import { parquetWriteBuffer } from 'hyparquet-writer';
import sharp from 'sharp';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { UserError } from '../../tensor/errors.js';
import { Draws } from '../../tensor/philox.js';
import { imageFault } from '../image-file.js';
import { readPairs } from '../pairs.js';
import type { Archive } from './archive.js';
import { binWriter, openBin } from './bin.js';
import { openSource, sourceLength } from './image-source.js';
import { openList } from './list.js';
import { openParquet, ParquetUnpacker } from './parquet.js';
import { openRecordIo } from './recordio.js';
import { createArchive } from './writers.js';

const rounds = Number(process.env['TURL_FUZZ'] ?? 2000);
const slowest = 2000; // milliseconds for one file
const largest = 400; // MiB that the process may grow by

const test = suite<{ root: string }>('fuzz');
test.before((context) => {
  context.root = mkdtempSync(join(tmpdir(), 'turl-fuzz-'));
});
test.after(({ root }) => rmSync(root, { recursive: true }));

/** One to four pieces of damage: bytes changed, runs cut out, repeated or inserted, words made extreme, the end lost. */
function damage(valid: Buffer, draws: Draws): Buffer {
  let bytes = Buffer.from(valid);
  for (let n = 1 + draws.int(4); n > 0 && bytes.length > 0; n--) {
    const at = draws.int(bytes.length);
    const run = 1 + draws.int(Math.min(32, bytes.length - at));
    const before = bytes.subarray(0, at);
    switch (draws.int(7)) {
      case 0:
        bytes[at] = draws.int(256);
        break;
      case 1:
        bytes[at] = (bytes[at] ?? 0) ^ (1 << draws.int(8));
        break;
      case 2:
        bytes = Buffer.concat([before, bytes.subarray(at + run)]);
        break;
      case 3:
        bytes = Buffer.concat([before, bytes.subarray(at, at + run), bytes.subarray(at)]);
        break;
      case 4:
        bytes = Buffer.concat([
          before,
          Buffer.from(Array.from({ length: run }, () => draws.int(256))),
          bytes.subarray(at),
        ]);
        break;
      case 5:
        if (at + 4 <= bytes.length)
          bytes.writeUInt32LE(
            [0, 1, 0x7fffffff, 0x80000000, 0xffffffff, 0x1fffffff, 0xced7230a][draws.int(7)] ?? 0,
            at,
          );
        break;
      default:
        bytes = Buffer.from(before);
    }
  }
  return bytes;
}

/** Everything that an archive says is there can be read, or is named as broken. */
function readAll(archive: Archive): void {
  const { source, labels, names, pairs } = archive;
  assert.is(labels.length, sourceLength(source));
  if (!pairs) assert.ok(labels.every((label) => label >= 0 && label < names.length));
  const reader = openSource(source);
  try {
    for (let image = 0; image < labels.length; image++)
      try {
        reader.bytes(image);
      } catch (error) {
        assert.instance(error, UserError);
      }
  } finally {
    reader.close();
  }
}

async function fuzz(name: string, valid: Buffer, parse: (bytes: Buffer) => unknown): Promise<void> {
  await parse(valid); // the undamaged file is accepted
  const start = process.memoryUsage().rss;
  let accepted = 0;
  for (let round = 0; round < rounds; round++) {
    const bytes = damage(valid, new Draws(1, 0, name.length, round));
    const began = performance.now();
    try {
      await parse(bytes);
      accepted++;
    } catch (error) {
      if (!(error instanceof UserError))
        throw new Error(`${name}, round ${round}: ${error instanceof Error ? error.stack : String(error)}`, {
          cause: error,
        });
    }
    const took = performance.now() - began;
    // Pixels are given back by finalizers, which run between turns of the event loop only.
    if (round % 8 === 0) await nextTurn();
    assert.ok(took < slowest, `${name}, round ${round}: ${took.toFixed(0)} ms`);
  }
  const grown = (process.memoryUsage().rss - start) / 2 ** 20;
  assert.ok(grown < largest, `${name}: the process grew by ${grown.toFixed(0)} MiB`);
  assert.ok(accepted < rounds, `${name}: all damage was accepted`);
}

const images = Array.from({ length: 6 }, (_, i) => Buffer.from(`image ${i} `.repeat(3)));

test('records, their index, and their property', async ({ root }) => {
  const file = join(root, 'a.rec');
  const writer = createArchive(file, 16);
  for (const [i, bytes] of images.entries())
    await writer.add({ bytes, label: i >> 1, identity: '', name: '' });
  await writer.finish();
  for (const name of ['a.rec', 'a.idx', 'property']) {
    const valid = readFileSync(join(root, name));
    await fuzz(name, valid, (bytes) => {
      writeFileSync(join(root, name), bytes);
      readAll(openRecordIo(file));
    });
    writeFileSync(join(root, name), valid);
  }
  rmSync(join(root, 'a.idx'));
  await fuzz('a.rec without index', readFileSync(file), (bytes) => {
    writeFileSync(file, bytes);
    readAll(openRecordIo(file));
  });
});

test('verification sets', async ({ root }) => {
  const file = join(root, 'a.bin');
  const valid = Buffer.concat([
    binWriter.head,
    ...images.map((image) => binWriter.image(image)),
    binWriter.tail([true, false, true]),
  ]);
  await fuzz('a.bin', valid, (bytes) => {
    writeFileSync(file, bytes);
    readAll(openBin(file));
  });
  // An array of numpy and a string of Python 2.
  const array =
    '\x80\x03](cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85C\x01b\x87R(K\x01K\x02\x85cnumpy\ndtype\nX\x02\x00\x00\x00u1\x89\x88\x87R\x89C\x02abtbC\x01xe](\x88e\x86.';
  const old = "((lp0\nS'ab\\xff'\nV\\u0041\np1\nS'cd'\np2\n(lp3\nI01\na.";
  for (const text of [array, old]) {
    const run = (bytes: Buffer) => {
      writeFileSync(file, bytes);
      readAll(openBin(file));
    };
    if (text === array) await fuzz('numpy', Buffer.from(text, 'latin1'), run);
    else
      for (let round = 0; round < rounds; round++)
        try {
          run(damage(Buffer.from(text, 'latin1'), new Draws(2, 0, 0, round)));
        } catch (error) {
          assert.instance(error, UserError, String(error));
        }
  }
});

test('lists and pairs', async ({ root }) => {
  const list = join(root, 'a.csv');
  await fuzz('list', Buffer.from('path,label\na/1.jpg,3\n"b/2, of.png",4\na/3.jpg,3\n'), (bytes) => {
    writeFileSync(list, bytes);
    readAll(openList(list));
  });
  const pairs = join(root, 'pairs.txt');
  await fuzz('pairs', Buffer.from('2 1\nanna 1 2\nanna 1 bert 1\nbert 1 2\nbert 2 carl 1\n'), (bytes) => {
    writeFileSync(pairs, bytes);
    readPairs(pairs, (name, number) => name.length * 10 + number);
  });
});

test('Parquet', async ({ root }) => {
  const file = join(root, 'a.parquet');
  const valid = Buffer.from(
    parquetWriteBuffer({
      columnData: [
        { name: 'image', data: images.map((image) => Uint8Array.from(image)), type: 'BYTE_ARRAY' },
        { name: 'label', data: images.map((_, i) => i >> 1), type: 'INT32' },
      ],
    }),
  );
  const cache = join(root, 'cache');
  // The thread is kept for all files; a file of six rows that takes so long will never end.
  const unpacker = new ParquetUnpacker(1000);
  const close = unpacker.close.bind(unpacker);
  unpacker.close = () => Promise.resolve();
  await fuzz('Parquet', valid, async (bytes) => {
    writeFileSync(file, bytes);
    try {
      readAll(await openParquet(file, { cache, unpacker }));
    } finally {
      rmSync(cache, { recursive: true, force: true });
    }
  });
  await close();
});

test('images', async () => {
  const image = sharp({
    create: { width: 24, height: 20, channels: 3, background: { r: 200, g: 90, b: 60 } },
  });
  const files = {
    jpeg: await image.clone().jpeg().toBuffer(),
    png: await image.clone().png().toBuffer(),
    webp: await image.clone().webp().toBuffer(),
    pgm: Buffer.concat([Buffer.from('P5\n6 5\n255\n'), Buffer.alloc(30, 7)]),
  };
  for (const [name, valid] of Object.entries(files))
    await fuzz(name, valid, (bytes) => {
      const fault = imageFault(bytes);
      if (fault !== null) throw new UserError(fault);
    });
});

test.run();
