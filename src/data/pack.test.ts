import { spawn, spawnSync } from 'node:child_process';
import { mkdirSync, readdirSync, readFileSync, truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import * as assert from 'uvu/assert';
import { UserError } from '../tensor/errors.js';
import { inspect } from './inspect.js';
import { pack, split } from './pack.js';
import { openArchive, type Archive } from './formats/archive.js';
import { imageFile } from './formats/image-source.js';
import { checkCounts } from './formats/target.js';
import { createArchive } from './formats/writers.js';
import { contents, fails, folderOf, folderSuite } from './testing.js';

const test = folderSuite('packing');

test('a pack that was cut off goes on, and ends the same', async ({ root }) => {
  const archive = await openArchive(await folderOf(root, 5));
  for (const to of ['whole.rec', 'whole']) await pack(archive, to);
  for (const [to, file] of [
    ['again.rec', 'again.rec.part'],
    ['again', undefined],
  ] as const) {
    let seen = 0;
    const stop = new Error('stop');
    await pack(archive, to, {
      onProgress: () => {
        if (++seen === 7) throw stop;
      },
    }).catch((error: unknown) => assert.is(error, stop));
    if (file) truncateSync(file, readFileSync(file).length - 5);
    const { resumed } = await pack(archive, to);
    assert.is(resumed, file ? 6 : 7);
    assert.equal(contents(await openArchive(to)), contents(archive));
  }
  assert.ok(readFileSync('again.rec').equals(readFileSync('whole.rec')));
  assert.ok(readFileSync('again.idx').equals(readFileSync('whole.idx')));
  await fails(() => pack(archive, 'whole'), /whole is there already/);
  await fails(() => pack(archive, 'x.bin'), /expected a verification set/);
  await fails(() => pack(archive, 'x.doc'), /expected a folder of .* found x\.doc/);
});

/** Packs until `images` are written. */
const packUntil = (archive: Archive, to: string, images: number) => {
  const stop = new Error('stop');
  return pack(archive, to, {
    onProgress: (done) => {
      if (done === images) throw stop;
    },
  }).catch((error: unknown) => assert.is(error, stop));
};

test('a pack that was cut off goes on only from the same images', async ({ root }) => {
  const folder = await folderOf(root, 5);
  const archive = await openArchive(folder);
  await pack(archive, 'other.parquet');
  for (const to of ['x.rec', 'x']) {
    await packUntil(archive, to, 3);
    const other = await openArchive('other.parquet');
    await fails(
      () => pack(other, to),
      /x.*\.part was begun from .*faces, expected .*other\.parquet: remove it/,
    );
    const some = { keep: (identity: number) => identity > 0 };
    await fails(() => pack(archive, to, some), /x.*\.part was begun from other images of .*faces than/);
    await fails(() => createArchive(to, 112), /x.*\.part is of a run that was cut off and cannot go on/);
    assert.is((await pack(archive, to)).resumed > 0, true);
    assert.equal(contents(await openArchive(to)), contents(archive));
  }
  await packUntil(archive, 'y', 3);
  const first = imageFile(archive.source, 0);
  writeFileSync(first, Buffer.concat([readFileSync(first), Buffer.alloc(1)]));
  await fails(() => pack(archive, 'y'), /y\.part was begun from other images/);
});

test('what a killed run left of a file is not in the finished folder', async ({ root }) => {
  const archive = await openArchive(await folderOf(root, 2));
  await packUntil(archive, 'x', 1);
  writeFileSync('x.part/person 0/.1.png.123.tmp', 'half');
  await pack(archive, 'x');
  assert.equal(readdirSync('x/person 0'), ['0.jpg', '1.png']);
  assert.equal(readdirSync('x'), ['person 0', 'person 1']);
});

test('an empty folder, written with a slash, is filled; images of one name are all kept', async ({
  root,
}) => {
  await folderOf(root, 2);
  writeFileSync('faces/list.csv', 'person 0/0.jpg,1\nperson 1/0.jpg,1\n');
  mkdirSync('x');
  await pack(await openArchive('faces/list.csv'), 'x/');
  assert.equal(readdirSync('x/1'), ['0-2.jpg', '0.jpg']);
});

test('nothing that exists is written over, and a set does not grow into its own source', async ({ root }) => {
  const archive = await openArchive(await folderOf(root, 3));
  writeFileSync('x.idx', 'mine');
  await fails(() => pack(archive, 'x.rec'), /x\.idx is there already/);
  assert.is(readFileSync('x.idx', 'utf8'), 'mine');
  await fails(() => pack(archive, 'faces/sub'), /faces\/sub lies in .*faces, which it is made from/);
  writeFileSync('property', '9,112,112\n');
  const { note } = await pack(archive, 'y.rec');
  assert.match(note ?? '', /^property was left as it is: it says "9,112,112", and of y\.rec .* "3,20,20"$/);
  assert.is(readFileSync('property', 'utf8'), '9,112,112\n');
  assert.equal(readdirSync(root).sort(), ['faces', 'property', 'x.idx', 'y.idx', 'y.rec']);
});

test('a target that another process writes is refused, until that one is gone', async ({ root }) => {
  const archive = await openArchive(await folderOf(root, 2));
  for (const to of ['x.rec', 'x.parquet', 'x']) {
    const script = `import { lockPath } from '${join(import.meta.dirname, '../train/run-lock.js')}';
      lockPath('${to}'); console.log('in'); setInterval(() => {}, 1000);`;
    const child = spawn(process.execPath, ['--input-type=module', '-e', script], {
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    await new Promise((resolve) => child.stdout.once('data', resolve));
    const inUse = new RegExp(
      `^${to} is in use by process ${child.pid}: wait for it, or choose another name$`,
    );
    const ended = new Promise((resolve) => child.once('exit', resolve));
    try {
      await fails(() => pack(archive, to), inUse);
      await fails(() => createArchive(to, 20), inUse);
    } finally {
      child.kill('SIGKILL');
    }
    await ended;
    assert.is((await pack(archive, to)).images, 5);
  }
  assert.not.ok(readdirSync(root).some((name) => /lock|part/.test(name)));
});

test('what a format cannot hold is refused before anything is written', async ({ root }) => {
  const archive = await openArchive(await folderOf(root, 2));
  for (const to of ['x.rec/', 'x.parquet/', 'x.bin//'])
    await fails(
      () => createArchive(to, 20),
      /^x\.\w+\/+: expected the name of a file, without a slash at its end$/,
    );
  const named = (name: string) => ({ ...archive, names: ['a', name] });
  for (const name of ['b/c', '.b', '..', ''])
    await fails(
      () => pack(named(name), 'x'),
      /^x: expected identities that can be names of folders, found "/,
    );
  const other = named('b/c');
  await pack(other, 'x', { keep: (identity) => identity === 0 });
  // Identities end at images + identities + 1, the last whole number that a float32 has: 2^24.
  checkCounts('y.rec', 2 ** 24 - 4, 3);
  await fails(
    () => checkCounts('y.rec', 2 ** 24 - 4, 4),
    /^y\.rec: expected at most 16777215 images and identities together, found 16777212 and 4: write/,
  );
  const writer = createArchive('z.rec', 20);
  const image = { bytes: Uint8Array.of(1), identity: '', name: '' };
  await writer.add({ ...image, label: 1 });
  await writer.add({ ...image, label: 2 ** 24 - 4 });
  await writer.add({ ...image, label: 2 ** 24 }).then(
    () => assert.unreachable(),
    (error: Error) => {
      assert.match(error.message, /^z\.rec: expected at most/);
    },
  );
  await writer.add({ ...image, label: 0 }).then(
    () => assert.unreachable(),
    (error: Error) => {
      assert.not.instance(error, UserError);
      assert.match(error.message, /^z\.rec: image 2 has label 0, lower than the one before$/);
    },
  );
  writer.discard();
  assert.equal(readdirSync(root).sort(), ['faces', 'x']);
});

test('broken images are packed as they are, whichever comes first', async ({ root }) => {
  const folder = await folderOf(root, 2);
  writeFileSync(join(folder, 'person 0/0.jpg'), '');
  const archive = await openArchive(folder);
  for (const to of ['x', 'x.rec', 'x.parquet']) assert.is((await pack(archive, to)).images, 5);
  assert.is(readFileSync('property', 'utf8'), '2,20,20\n');
  await pack(await openArchive('x.rec'), 'y');
  assert.equal(readdirSync('y/0'), ['0000000.jpg', '0000001.png']);
  assert.equal(
    (await inspect('y', { workers: 0 })).broken.map(({ image }) => image),
    ['y/0/0000000.jpg'],
  );
  for (const name of readdirSync(join(folder, 'person 0'))) writeFileSync(join(folder, 'person 0', name), '');
  const empty = { keep: (identity: number) => identity === 0 };
  await fails(
    () => pack(archive, 'z.rec', empty),
    /faces: expected images that can be decoded, found none \(the first, .*person 0\/0\.jpg: expected JPEG/,
  );
});

test('a full disk: one sentence, and nothing is taken for whole', ({ root }) => {
  // Beyond 25,600 bytes the system writes no more, within the last piece of each; its signal would end the process.
  for (const [to, images] of [
    ['x.bin', 4000],
    ['x.rec', 200],
    ['x.parquet', 4000],
  ] as const) {
    const script = `import { createArchive } from '${join(import.meta.dirname, 'formats/writers.js')}';
      const writer = createArchive('${to}', 1);
      try {
        for (let i = 0; i < ${images}; i++)
          await writer.add({ bytes: Uint8Array.of(1), label: i, identity: 'a', name: String(i) });
        await writer.finish(new Array(${images} / 2).fill(true));
      } catch (error) {
        console.log(error.name + ': ' + error.message);
        writer.discard();
      }`;
    const { status, stdout, stderr } = spawnSync(
      'sh',
      [
        '-c',
        `trap '' XFSZ; ulimit -f ${images === 200 ? 26 : 50}; exec "$@"`,
        'sh',
        process.execPath,
        '--input-type=module',
        '-e',
        script,
      ],
      { encoding: 'utf8' },
    );
    assert.is(status, 0, stderr);
    assert.is(stdout, `UserError: cannot write ${to}: the file would be too large\n`);
    assert.equal(readdirSync(root), []);
  }
});

test('split: by identity, by seed, nothing lost', async ({ root }) => {
  const folder = await folderOf(root, 6);
  const { train, test: held } = await split(folder, 'train.rec', 'test.parquet', 2, 3);
  assert.equal([train.identities, held.identities], [4, 2]);
  const all = contents(await openArchive(folder)).map(([, hex]) => hex);
  const parts = [...contents(await openArchive('train.rec')), ...contents(await openArchive('test.parquet'))];
  assert.equal(parts.map(([, hex]) => hex).sort(), all.sort());
  await split(folder, 'b.rec', 'c.parquet', 2, 3);
  assert.equal(contents(await openArchive('b.rec')), contents(await openArchive('train.rec')));
  await fails(() => split(folder, 'd.rec', 'e.rec', 6, 1), /expected 1 to 5 of the 6 identities/);
});

test('split: both places are checked before either is written; one property cannot be right for two sets', async ({
  root,
}) => {
  const folder = await folderOf(root, 6);
  mkdirSync('full/x', { recursive: true });
  for (const [train, held, reason] of [
    ['full', 'new', /full is there already/],
    ['new', 'full', /full is there already/],
    ['new', 'list.csv', /a list holds no images/],
    ['new', 'set.bin', /expected a verification set/],
    ['new', 'new', /two places that do not hold each other, got new and new/],
    ['new', 'new/test', /two places that do not hold each other/],
  ] as const)
    await fails(() => split(folder, train, held, 2, 1), reason);
  assert.equal(readdirSync(root).sort(), ['faces', 'full']);
  // Cut off in the second set, it goes on with both.
  const stop = new Error('stop');
  await split(folder, 'sets/train.rec', 'sets/test.rec', 2, 1, (done, total) => {
    if (done === 3 && total > 8) throw stop;
  }).catch((error: unknown) => assert.is(error, stop));
  const { train, test: held } = await split(folder, 'sets/train.rec', 'sets/test.rec', 2, 1);
  assert.ok(train.resumed > 0 && held.resumed > 0);
  for (const { note } of [train, held])
    assert.match(note ?? '', /^sets\/property was not written: there are several \.rec in sets/);
  assert.equal(readdirSync('sets').sort(), ['test.idx', 'test.rec', 'train.idx', 'train.rec']);
  for (const to of ['sets/train.rec', 'sets/test.rec']) assert.equal((await openArchive(to)).notes, []);
  await split(folder, 'a/train.rec', 'b/test.rec', 2, 1);
  assert.equal(
    ['a', 'b'].map((name) => readFileSync(`${name}/property`, 'utf8')),
    ['4,20,20\n', '2,20,20\n'],
  );
});

test.run();
