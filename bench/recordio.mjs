// Opening a RecordIO file of a million records and reading it at random, without decoding. The file is generated, sparse where it can be.
// usage: node bench/recordio.mjs [--records 1000000] [--record]   --record appends the row to bench/history.csv
import { execFileSync } from 'node:child_process';
import { appendFileSync, closeSync, mkdtempSync, openSync, rmSync, writeFileSync, writeSync } from 'node:fs';
import { cpus, tmpdir } from 'node:os';
import path from 'node:path';
import { parseArgs } from 'node:util';

import { header, imageRecord, record } from '../dist/data/formats/recordio.js';

const { values } = parseArgs({
  options: { records: { type: 'string', default: '1000000' }, record: { type: 'boolean', default: false } },
});
const records = Number(values.records);
const [perIdentity, imageBytes] = [50, 1000];
const identities = records / perIdentity;
const folder = mkdtempSync(path.join(tmpdir(), 'turl-recordio-'));
const file = path.join(folder, 'train.rec');

function generate() {
  const out = openSync(file, 'w');
  const index = ['0\t0\n'];
  let at = 0;
  let pending = [record(header([records + 1, records + 1 + identities], 0))];
  let size = pending[0].length;
  const put = (data, key) => {
    index.push(`${key}\t${at + size}\n`);
    pending.push(data);
    size += data.length;
    if (size < 1 << 24) return;
    writeSync(out, Buffer.concat(pending), 0, size, at);
    at += size;
    [pending, size] = [[], 0];
  };
  const image = Buffer.alloc(imageBytes, 7);
  for (let i = 0; i < records; i++) {
    image.writeUInt32LE(i, 4);
    put(imageRecord(image, Math.floor(i / perIdentity), i + 1), i + 1);
  }
  for (let i = 0; i < identities; i++)
    put(record(header([1 + i * perIdentity, 1 + (i + 1) * perIdentity], 0)), records + 1 + i);
  writeSync(out, Buffer.concat(pending), 0, size, at);
  closeSync(out);
  writeFileSync(path.join(folder, 'train.idx'), index.join(''));
}

try {
  generate();
  // A process of its own, so that generating leaves no memory behind.
  const script = `
    const { openRecordIo } = await import(${JSON.stringify(new URL('../dist/data/formats/recordio.js', import.meta.url).href)});
    const { openSource } = await import(${JSON.stringify(new URL('../dist/data/formats/image-source.js', import.meta.url).href)});
    const before = process.memoryUsage().rss;
    const start = performance.now();
    const archive = openRecordIo(${JSON.stringify(file)});
    const opened = performance.now() - start;
    const memory = process.memoryUsage().rss;
    const reader = openSource(archive.source);
    const reads = 100000;
    let seed = 1, wrong = 0;
    const began = performance.now();
    for (let i = 0; i < reads; i++) {
      seed = (seed * 1103515245 + 12345) % 2147483648;
      const image = seed % archive.labels.length;
      if (reader.bytes(image).readUInt32LE(4) !== image || archive.labels[image] !== Math.floor(image / ${perIdentity})) wrong++;
    }
    const rate = reads / (performance.now() - began) * 1000;
    console.log(JSON.stringify({ images: archive.labels.length, identities: archive.names.length, opened, memory, before, rate, wrong }));`;
  const found = JSON.parse(
    execFileSync(process.execPath, ['--input-type=module', '-e', script], { encoding: 'utf8' }),
  );
  if (found.wrong > 0 || found.images !== records || found.identities !== identities)
    throw new Error(`wrong: ${JSON.stringify(found)}`);
  const mib = (bytes) => (bytes / 2 ** 20).toFixed(0);
  console.log(`${found.images} images of ${found.identities} identities`);
  console.log(
    `opened in ${found.opened.toFixed(0)} ms; the process has ${mib(found.memory)} MiB, ${mib(found.memory - found.before)} of them for it`,
  );
  console.log(`random access: ${found.rate.toFixed(0)} records/s (${imageBytes} bytes each)`);
  if (values.record) {
    const commit = execFileSync('git', ['rev-parse', '--short', 'HEAD'], { encoding: 'utf8' }).trim();
    const row = [
      new Date().toISOString().slice(0, 10),
      commit,
      `${cpus()[0].model.trim()}; 1 thread`,
      'RecordIO open and random access',
      `${records} records of ${imageBytes} bytes`,
      found.opened.toFixed(1),
      `${found.rate.toFixed(0)} records/s`,
      `open ${found.opened.toFixed(0)} ms; process ${mib(found.memory)} MiB; file in the page cache`,
    ];
    appendFileSync(path.join(import.meta.dirname, 'history.csv'), `${row.join(',')}\n`);
  }
} finally {
  rmSync(folder, { recursive: true });
}
