import { spawnSync } from 'node:child_process';
import {
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  truncateSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { parquetWriteBuffer } from 'hyparquet-writer';
import * as assert from 'uvu/assert';
import { inspect } from '../inspect.js';
import { pack } from '../pack.js';
import { archiveKind, openArchive, type Archive } from './archive.js';
import { openBin } from './bin.js';
import { imageKey, openSource } from './image-source.js';
import { ParquetUnpacker } from './parquet.js';
import { readPickle } from './pickle.js';
import { header, imageRecord, magic, openRecordIo, record } from './recordio.js';
import { createArchive } from './writers.js';
import { contents, fails, folderOf, folderSuite } from '../testing.js';

const test = folderSuite('formats');

test('folder, .rec, .parquet, folder: the same bytes and labels', async ({ root }) => {
  const folder = await folderOf(root, 4);
  const expected = contents(await openArchive(folder));
  let from = folder;
  for (const to of ['a.rec', 'b.parquet', 'c', 'd.parquet', 'e.rec']) {
    const { images, identities } = await pack(await openArchive(from), to);
    assert.equal([images, identities], [expected.length, 4]);
    const archive = await openArchive(to);
    assert.equal(contents(archive), expected, to);
    assert.equal(archive.notes, []);
    from = to;
  }
  assert.is(readFileSync('property', 'utf8'), '4,20,20\n');
  assert.equal(
    readdirSync(root).filter((name) => name.endsWith('.part')),
    [],
  );
});

test('a list in each of its shapes', async ({ root }) => {
  await folderOf(root, 3);
  const files = ['person 2/0.jpg', 'person 0/1.png', 'person 0/0.jpg'];
  const texts: [string, string][] = [
    ['a.csv', `path,label\n${files[0]},20\n${files[1]},3\n${files[2]},3\n`],
    ['b.csv', `${files[0]},zoe\n${files[1]},adam\n${files[2]},adam\n`],
    ['c.lst', `0\t20\t${files[0]}\n1\t3.000\t${files[1]}\n2\t3\t${files[2]}\n`],
    ['d.tsv', `identity\tfile\nz\t${files[0]}\na\t${files[1]}\na\t${files[2]}\n`],
    ['e.tsv', `\tfile\tidentity\n0\t${files[0]}\tz\n\n1\t${files[1]}\ta\n2\t${files[2]}\ta`],
    [
      'f.csv',
      `\uFEFF"path","label"\r\n"${files[0]}","z, ""zoe"""\r\n "${files[1]}" ,a\r\n${files[2]},"a"\r\n`,
    ],
  ];
  for (const [name, text] of texts) {
    writeFileSync(join(root, 'faces', name), text);
    const archive = await openArchive(join(root, 'faces', name));
    assert.equal(Array.from(archive.labels), [1, 0, 0], name);
    assert.is(openSource(archive.source).bytes(1).toString('latin1', 1, 4), 'PNG');
  }
  writeFileSync('e.csv', 'path,label\nx.jpg\n');
  await fails(() => openArchive('e.csv'), /e\.csv: image 1: expected a path and a label, found "x\.jpg"/);
  writeFileSync('quotes.csv', 'path,label\nx.jpg,1\n"y.jpg,2\n');
  await fails(() => openArchive('quotes.csv'), /quotes\.csv: Parse Error: missing closing/);
  writeFileSync('f.csv', 'foo,bar\n1,2\n');
  await fails(() => openArchive('f.csv'), /f\.csv:1: expected the columns path and label/);
});

test('lists: columns by preference, labels as they are, paths with spaces, absolute paths', async ({
  root,
}) => {
  const identities = async (name: string, text: string) => {
    writeFileSync(name, text);
    const { source, labels, names } = await openArchive(name);
    const files = Array.from(labels, (_, image) => imageKey(source, image));
    return [files, Array.from(labels, (label) => names[label])];
  };
  const files = ['a/1.jpg', 'b/2.jpg'];
  const lists: [string, string, string[]][] = [
    ['id.csv', 'id,path,label\n0,a/1.jpg,5\n1,b/2.jpg,5\n', ['5', '5']],
    ['image.csv', 'image_id,path,id\n0,a/1.jpg,5\n1,b/2.jpg,6\n', ['5', '6']],
    ['insightface.lst', '1\ta/1.jpg\t5\n1\tb/2.jpg\t6\n', ['5', '6']],
    ['several.lst', '0\t5\t0.5\t0\ta/1.jpg\n1\t6\t0.5\t0\tb/2.jpg\n', ['5', '6']],
    ['spaces.lst', '0 5.000000 a/1.jpg\n1 6.000000 b/2.jpg\n', ['5', '6']],
    [
      'large.csv',
      'a/1.jpg,10000000000000000\nb/2.jpg,10000000000000001\n',
      ['10000000000000000', '10000000000000001'],
    ],
    ['zeros.csv', 'a/1.jpg,7\nb/2.jpg,007\n', ['7', '007']],
    ['hex.csv', 'a/1.jpg,00e1\nb/2.jpg,00e2\n', ['00e1', '00e2']],
  ];
  for (const [name, text, labels] of lists) assert.equal(await identities(name, text), [files, labels], name);
  const blanks = ['my faces/1.jpg', 'my faces/two  blanks.jpg'];
  for (const text of [
    'my faces/1.jpg 5\nmy faces/two  blanks.jpg 6\n',
    '5 my faces/1.jpg\n6   my faces/two  blanks.jpg\n',
    'path label\nmy faces/1.jpg 5\nmy faces/two  blanks.jpg 6\n',
  ])
    assert.equal(await identities('blanks.txt', text), [blanks, ['5', '6']], text);
  assert.equal(await identities('absolute.csv', `${root}/a/1.jpg,5\nb/2.jpg,6\n`), [
    [join(root, 'a/1.jpg'), join(process.cwd(), 'b/2.jpg')],
    ['5', '6'],
  ]);
});

test('identities have one order in a folder, a list and a Parquet file', async ({ root }) => {
  const folder = await folderOf(root, 3);
  ['10', '9', '009'].forEach((name, i) => renameSync(join(folder, `person ${i}`), join(folder, name)));
  const archive = await openArchive(folder);
  assert.equal(archive.names, ['9', '009', '10']);
  const files = Array.from(archive.labels, (_, image) => imageKey(archive.source, image));
  assert.equal(
    files.map((file) => file.split('/')[0]),
    Array.from(archive.labels, (label) => archive.names[label]),
  );
  writeFileSync('faces.csv', files.map((file) => `faces/${file},${file.split('/')[0]}\n`).join(''));
  await pack(archive, 'faces.parquet');
  for (const path of ['faces.csv', 'faces.parquet']) {
    const other = await openArchive(path);
    assert.equal([other.names, contents(other)], [archive.names, contents(archive)], path);
  }
});

test('folders: names with a dot are left out, names that are not UTF-8 are said', async ({ root }) => {
  const folder = await folderOf(root, 2);
  const expected = contents(await openArchive(folder));
  mkdirSync(join(folder, '.hidden'));
  for (const name of ['.hidden/1.jpg', 'person 0/._0.jpg']) writeFileSync(join(folder, name), 'x');
  assert.equal(contents(await openArchive(folder)), expected);
  if (process.platform !== 'linux') return; // others have no such names
  mkdirSync(Buffer.concat([Buffer.from(`${folder}/Zo`), Buffer.from([0xeb])]));
  await fails(() => openArchive(folder), /faces: expected names in UTF-8, found "Zo\uFFFD"/);
});

test('records: several labels, magic words inside, no index, an index in any order', ({ root }) => {
  const word = Buffer.alloc(4);
  word.writeUInt32LE(magic);
  const images = [
    Buffer.from('plain'),
    Buffer.concat([word, word, Buffer.from('x'), word]),
    Buffer.concat([Buffer.from('abcd'), word, Buffer.from('ef')]),
  ];
  const records = [
    imageRecord(images[0] as Buffer, 7, 0),
    imageRecord(images[1] as Buffer, 5, 1),
    record(Buffer.concat([header([7, 1, 2], 2), images[2] as Buffer])),
  ];
  const file = join(root, 'a.rec');
  writeFileSync(file, Buffer.concat(records));
  const expected = [1, 0, 1].map((label, i) => [label, images[i]?.toString('hex')]);
  const scanned = openRecordIo(file);
  assert.equal(contents(scanned), expected);
  assert.equal(scanned.names, ['5', '7']);
  assert.match(scanned.notes[0] ?? '', 'a.idx is missing');
  const starts = [0, records[0]?.length, (records[0]?.length ?? 0) + (records[1]?.length ?? 0)];
  writeFileSync(join(root, 'a.idx'), `2\t${starts[2]}\n0\t${starts[0]}\r\n1\t${starts[1]}`);
  assert.equal(contents(openRecordIo(file)), expected);
  writeFileSync(join(root, 'property'), '9,112,112');
  assert.equal(openRecordIo(file).notes, ['property says 9 identities, the records have 2']);
});

test("records of InsightFace's layout without identities have their own labels", async ({ root }) => {
  const file = join(root, 'a.rec');
  const images = [5, 5, 9].map((label, i) => imageRecord(Buffer.from(`image ${i}`), label, i + 1));
  for (const counts of [
    [4, 6],
    [4, 4],
    [4, 0],
    [4, 0, 0],
  ]) {
    writeFileSync(file, Buffer.concat([record(header(counts, 0)), ...images]));
    const archive = openRecordIo(file);
    assert.equal(
      [[...archive.labels], archive.names],
      [
        [0, 0, 1],
        ['5', '9'],
      ],
      String(counts),
    );
  }
  // Without any record that belongs to them, two labels are those of an image.
  writeFileSync(file, Buffer.concat([record(header([2, 0.5], 0)), ...images]));
  assert.equal(openRecordIo(file).names, ['2', '5', '9']);
  writeFileSync(file, record(header([1, 1], 0)));
  await fails(() => openRecordIo(file), /a\.rec: expected images, found none/);
  mkdirSync(join(root, 'a.idx'));
  await fails(() => openRecordIo(file), /cannot read .*a\.idx: it is a folder/);
  await fails(
    () => archiveKind(join(file, 'f')),
    /cannot open .*a\.rec\/f: a part of the path is not a folder/,
  );
});

test('broken records are named with their place', async ({ root }) => {
  const file = join(root, 'a.rec');
  const records = Buffer.concat([
    imageRecord(Buffer.from('one'), 0, 0),
    imageRecord(Buffer.from('two'), 1, 1),
  ]);
  writeFileSync(file, records.subarray(0, records.length - 8));
  await fails(() => openArchive(file), /a\.rec: the record at byte 36 is cut off: it needs 8 bytes more/);
  writeFileSync(file, records);
  writeFileSync(join(root, 'a.idx'), '0\t0\n1\t40\n');
  await fails(() => openArchive(file), /a\.rec: expected a record at byte 40, found none/);
  writeFileSync(join(root, 'a.idx'), '0\t0\nx\t40\n');
  await fails(() => openArchive(file), /a\.idx:2: expected a key, a tab and an offset, found "x\t40"/);
  writeFileSync(join(root, 'a.idx'), '0\t0\n1\t99999\n');
  await fails(() => openArchive(file), /record 1: expected an offset within the 72 bytes/);
  writeFileSync(file, imageRecord(Buffer.from('one'), 0.5, 0));
  rmSync(join(root, 'a.idx'));
  await fails(() => openArchive(file), /at byte 0: expected a whole number as label, found 0\.5/);
});

test('what is no Parquet file is said to be none', async ({ root }) => {
  const file = join(root, 'a.parquet');
  writeFileSync(file, '');
  await fails(() => openArchive(file), /a\.parquet: expected a Parquet file, found 0 bytes/);
  writeFileSync(file, 'not one of these at all');
  await fails(() => openArchive(file), /a\.parquet: expected a whole Parquet file: /);
});

const parquetOf = (columns: { name: string; data: unknown[]; type: 'BYTE_ARRAY' | 'INT32' | 'STRING' }[]) =>
  Buffer.from(parquetWriteBuffer({ columnData: columns }));

test('Parquet: identities before numbers of rows; images without bytes are broken ones', async () => {
  const image = Uint8Array.from(Buffer.from('image'));
  const data = [image, new Uint8Array(), undefined, image];
  writeFileSync(
    'a.parquet',
    parquetOf([
      { name: 'id', data: [0, 1, 2, 3], type: 'INT32' },
      { name: 'image', data, type: 'BYTE_ARRAY' },
      { name: 'Person', data: ['a', 'a', 'b', 'b'], type: 'STRING' },
    ]),
  );
  const archive = await openArchive('a.parquet');
  assert.equal(archive.names, ['a', 'b']);
  const hex = Buffer.from(image).toString('hex');
  assert.equal(contents(archive), [
    [0, hex],
    [0, ''],
    [1, ''],
    [1, hex],
  ]);
  const { broken } = await inspect('a.parquet', { workers: 0 });
  assert.is(broken[1]?.image, 'a.parquet: row 1');
  assert.match(broken[1]?.reason ?? '', 'the file is empty');
  writeFileSync(
    'a.parquet',
    parquetOf([
      { name: 'image', data: [new Uint8Array()], type: 'BYTE_ARRAY' },
      { name: 'label', data: [1], type: 'INT32' },
    ]),
  );
  await fails(
    () => openArchive('a.parquet'),
    /^a\.parquet: expected the bytes of images in column image, found none/,
  );
});

test('Parquet is unpacked once for each path; a copy that is not whole is made again', async ({ root }) => {
  const folder = await folderOf(root, 2);
  await pack(await openArchive(folder), 'a.parquet');
  const expected = contents(await openArchive('a.parquet'));
  const cached = () => readdirSync('.turl-cache').sort();
  const [images = '', index = ''] = cached();
  utimesSync('a.parquet', 1, 1);
  // No process has a number as high; the first process always runs.
  for (const pid of [2 ** 30, 1]) writeFileSync(`.turl-cache/parquet-0.images.${pid}.part`, 'x');
  assert.equal(contents(await openArchive('a.parquet')), expected);
  assert.equal(cached(), ['parquet-0.images.1.part', images, index].sort());
  truncateSync(join('.turl-cache', images), 5);
  assert.equal(contents(await openArchive('a.parquet')), expected);
});

test('Parquet: why it cannot be read or unpacked; where no cache can be made, the one of the system serves', async ({
  root,
}) => {
  await pack(await openArchive(await folderOf(root, 2)), 'a.parquet');
  const run = async (file: string, to: string) => {
    const unpacker = new ParquetUnpacker();
    await unpacker.run({ file, to }).finally(() => unpacker.close());
  };
  await fails(() => run('a.parquet', 'no/x'), /^cannot write no\/x: no such file or folder$/);
  await fails(() => run('b.parquet', 'x'), /^cannot read b\.parquet: no such file or folder$/);
  writeFileSync('.turl-cache', 'in the way');
  const before = process.env.TMPDIR;
  process.env.TMPDIR = root;
  try {
    const { source } = await openArchive('a.parquet');
    assert.match(source.kind === 'slices' ? source.file : '', `${root}/turl-cache-`);
  } finally {
    if (before === undefined) delete process.env.TMPDIR;
    else process.env.TMPDIR = before;
  }
});

/** Values of both Pythons, written out by hand; what a tool of the day would write is in `independent.py`. */
test('pickles: what they may hold, and what is refused by name', () => {
  const of = (text: string) => readPickle(Buffer.from(text, 'latin1'));
  assert.equal(of("(lp0\nS'a\\x00\\'\\\\'\np1\naI01\naI00\na."), [Buffer.from("a\0'\\"), true, false]); // Python 2, protocol 0
  assert.equal(of('\x80\x02]q\x00(U\x02abT\x01\x00\x00\x00c\x88\x89Ne.'), [
    Buffer.from('ab'),
    Buffer.from('c'),
    true,
    false,
    null,
  ]);
  assert.equal(of('\x80\x04\x95\x09\x00\x00\x00\x00\x00\x00\x00C\x01x\x94\x85\x94.'), [Buffer.from('x')]);
  const refused: [string, RegExp][] = [
    ["cos\nsystem\n(S'true'\ntR.", /names os\.system, which could run code/],
    ['c__builtin__\neval\n.', /names __builtin__\.eval/],
    ["(S'true'\nios\nsystem\n.", /the opcode INST/],
    ['\x80\x04\x8c\x02os\x8c\x06system\x93.', /names os\.system/],
    ['\x80\x02}.', /the opcode EMPTY_DICT/],
    ['\x80\x02c__builtin__\nbytes\n)\x81.', /the opcode NEWOBJ/],
    ['\x80\x06.', /a protocol of at most 5/],
    ['\x80\x03B\xff\xff\xff\x7fabc.', /expected 2147483647 more bytes, found 4/],
    ['\x80\x03h\x05.', /memo 5 is empty/],
    ['\x80\x03](', /found the end/],
    ['\x80\x03K\x01K\x02.', /values are left over/],
    ['e.', /a mark is missing/],
    ['.', /values are left over/],
    ['constructor\nname\n.', /names onstructor\.name/],
  ];
  for (const [text, pattern] of refused) assert.throws(() => of(text), pattern, text);
});

const script = join(import.meta.dirname, '../../../src/data/formats/independent.py');
const python = (...args: string[]): string => {
  const { status, stdout, stderr } = spawnSync('python3', [script, ...args], { encoding: 'utf8' });
  assert.is(status, 0, stderr);
  return stdout;
};
const withPython = existsSync(script) && spawnSync('python3', ['--version']).status === 0;
if (!withPython) console.log('skipped: python3 was not found');

if (withPython)
  test('an independent implementation reads what is written here, and the reverse', async ({ root }) => {
    python('write-rec', root);
    const read = openRecordIo(join(root, 'train.rec'));
    const lines = (archive: Archive) =>
      contents(archive)
        .map(([label, hex]) => `${label} ${hex}`)
        .join('\n');
    assert.is(`${lines(read)}\n`, python('read-rec', join(root, 'train.rec')));
    assert.is(read.labels.length, 9);
    await pack(read, join(root, 'other/again.rec')).catch((error: unknown) => {
      // Its images are no images: only their size cannot be told.
      assert.match(String(error), 'expected');
    });
    const writer = createArchive(join(root, 'mine/a.rec'), 112);
    const reader = openSource(read.source);
    read.labels.forEach(
      (label, image) => void writer.add({ bytes: reader.bytes(image), label, identity: '', name: '' }),
    );
    await writer.finish();
    assert.is(python('read-rec', join(root, 'mine/a.rec')), python('read-rec', join(root, 'train.rec')));
    for (const kind of ['bytes', 'bytearray'])
      for (let protocol = 0; protocol <= 5; protocol++) {
        const file = join(root, `${kind}-${protocol}.bin`);
        python('write-bin', file, String(protocol), kind);
        const archive = openBin(file);
        const images = contents(archive).map(([, hex]) => hex);
        const ours = archive.pairs?.genuine
          .map((g, i) => `${Number(g)} ${images[2 * i]} ${images[2 * i + 1]}\n`)
          .join('');
        assert.is(ours, python('read-bin', file), file);
      }
    const from = openBin(join(root, 'bytes-4.bin'));
    const bin = createArchive(join(root, 'mine.bin'), 112);
    const images = openSource(from.source);
    from.labels.forEach(
      (_, image) => void bin.add({ bytes: images.bytes(image), label: 0, identity: '', name: '' }),
    );
    await bin.finish(from.pairs?.genuine);
    assert.is(python('read-bin', join(root, 'mine.bin')), python('read-bin', join(root, 'bytes-4.bin')));
  });

test('CFP: frontal against profile, folds in their folders', async ({ root }) => {
  const protocol = join(root, 'Protocol');
  for (const fold of ['01', '02']) mkdirSync(join(protocol, 'Split/FP', fold), { recursive: true });
  writeFileSync(
    join(protocol, 'Pair_list_F.txt'),
    '1 ../Data/001/frontal/01.jpg\n2 ../Data/002/frontal/01.jpg\n',
  );
  writeFileSync(
    join(protocol, 'Pair_list_P.txt'),
    '1 ../Data/001/profile/01.jpg\n2 ../Data/002/profile/01.jpg\n',
  );
  const pairs = {
    '01/same.txt': '1,1\n',
    '01/diff.txt': '1,2\n',
    '02/same.txt': '2,2',
    '02/diff.txt': '2,1\n',
  };
  for (const [name, text] of Object.entries(pairs)) writeFileSync(join(protocol, 'Split/FP', name), text);
  const archive = await openArchive(join(protocol, 'Split/FP'));
  const files = Array.from(archive.labels, (_, image) => imageKey(archive.source, image));
  const found = archive.pairs;
  assert.equal(
    found?.genuine.map((genuine, i) => [
      files[found.first[i] ?? -1],
      files[found.second[i] ?? -1],
      genuine,
      found.fold[i],
    ]),
    [
      ['../Data/001/frontal/01.jpg', '../Data/001/profile/01.jpg', true, 0],
      ['../Data/001/frontal/01.jpg', '../Data/002/profile/01.jpg', false, 0],
      ['../Data/002/frontal/01.jpg', '../Data/002/profile/01.jpg', true, 1],
      ['../Data/002/frontal/01.jpg', '../Data/001/profile/01.jpg', false, 1],
    ],
  );
  assert.equal(archive.names, ['001', '002']);
  assert.equal([...archive.labels], [0, 0, 1, 1]);
  writeFileSync(join(protocol, 'Split/FP/02/same.txt'), '2,1'); // folders that are not people
  assert.equal([...(await openArchive(join(protocol, 'Split/FP'))).labels], [-1, -1, -1, -1]);
  // In FF both are frontal, and there is no other split.
  for (const split of ['FF', 'PP']) {
    mkdirSync(join(protocol, 'Split', split, '01'), { recursive: true });
    for (const [name, text] of [
      ['same.txt', '1,1'],
      ['diff.txt', '1,2'],
    ] as const)
      writeFileSync(join(protocol, 'Split', split, '01', name), text);
  }
  const { source } = await openArchive(join(protocol, 'Split/FF'));
  const frontal = ['001', '002'].map((person) => `../Data/${person}/frontal/01.jpg`);
  assert.equal(
    frontal.map((_, image) => imageKey(source, image)),
    frontal,
  );
  await fails(() => openArchive(join(protocol, 'Split/PP')), /expected the split FP or FF, found PP$/);
  writeFileSync(join(protocol, 'Split/FP/01/same.txt'), '1,9\n');
  await fails(
    () => openArchive(join(protocol, 'Split/FP')),
    /same\.txt:1: expected two numbers of the lists of images, found "1,9"/,
  );
});

test('ten folds as even as can be', ({ root }) => {
  const file = join(root, 'a.bin');
  const pairs = 23;
  writeFileSync(
    file,
    Buffer.concat([
      Buffer.from('\x80\x03](', 'latin1'),
      ...Array.from({ length: 2 * pairs }, () => Buffer.from('C\x01x')),
      Buffer.from(`e](${'\x88'.repeat(pairs)}e\x86.`, 'latin1'),
    ]),
  );
  const counts = new Array<number>(10).fill(0);
  openBin(file).pairs?.fold.forEach((fold) => (counts[fold] = (counts[fold] ?? 0) + 1));
  assert.equal(counts, [3, 3, 3, 2, 2, 2, 2, 2, 2, 2]);
});

test.run();
