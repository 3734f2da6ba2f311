import { spawnSync } from 'node:child_process';
import {
  closeSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readdirSync,
  readFileSync,
  rmdirSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { UserError } from '../tensor/errors.js';
import { checkOutput, makeFolder, removeTemporaries, writeAll, writeAtomic } from './atomic.js';

const test = suite<{ folder: string }>('atomic files');
test.before.each((context) => {
  context.folder = mkdtempSync(join(tmpdir(), 'turl-atomic-'));
});
test.after.each((context) => rmSync(context.folder, { recursive: true }));

const raises = (run: () => unknown, message: RegExp) =>
  assert.throws(run, (error: unknown) => error instanceof UserError && message.test(error.message));

test('a new file, then a replaced one, and nothing beside it', ({ folder }) => {
  const file = join(folder, 'a');
  writeAtomic(file, 'one');
  writeAtomic(file, Uint8Array.of(116, 119, 111));
  assert.is(readFileSync(file, 'utf8'), 'two');
  writeAtomic(file, (descriptor) => {
    writeAll(descriptor, Buffer.from('three'));
    writeAll(descriptor, Buffer.from('TH'), 0);
  });
  assert.is(readFileSync(file, 'utf8'), 'THree');
  assert.equal(readdirSync(folder), ['a']);
});

test('a full disk: one sentence, the old file intact, no temporary file', ({ folder }) => {
  // Every write to this device fails as on a full disk.
  if (!existsSync('/dev/full')) return;
  const file = join(folder, 'a');
  writeAtomic(file, 'old');
  const full = openSync('/dev/full', 'w');
  raises(
    () =>
      writeAtomic(file, (descriptor) => {
        writeAll(descriptor, Buffer.from('new'));
        writeAll(full, Buffer.from('more'));
      }),
    /^cannot write .*\/a: the disk is full$/,
  );
  closeSync(full);
  assert.is(readFileSync(file, 'utf8'), 'old');
  assert.equal(readdirSync(folder), ['a']);
});

test('a file where a folder is wanted: one sentence each', ({ folder }) => {
  const file = join(folder, 'a');
  writeAtomic(file, 'old');
  raises(
    () => writeAtomic(join(file, 'b'), 'new'),
    /^cannot write .*\/a\/b: a part of the path is not a folder$/,
  );
  raises(
    () => checkOutput('--out', join(file, 'b.csv'), ['.csv']),
    /expected a folder at .*\/a, found none$/,
  );
  raises(
    () => checkOutput('--out', join(file, 'b', 'c.csv'), ['.csv']),
    /^cannot write .*\/a\/b\/c\.csv: a part of the path is not a folder$/,
  );
  raises(() => checkOutput('--out', '/proc/b.csv', ['.csv']), /^cannot write \/proc\/b\.csv: no such/);
  mkdirSync(join(folder, 'd.csv'));
  raises(() => checkOutput('--out', join(folder, 'd.csv'), ['.csv']), /d\.csv: it is a folder$/);
  rmdirSync(join(folder, 'd.csv'));
  raises(
    () => makeFolder(join(file, 'b')),
    /^cannot make the folder .*\/a\/b: a part of the path is not a folder$/,
  );
  raises(() => makeFolder(file, 'the run'), /^cannot make the run: a file of that name is there$/);
  makeFolder(join(folder, 'c', 'd'));
  makeFolder(join(folder, 'c', 'd'));
  assert.equal(readdirSync(folder), ['a', 'c']);
});

test('a folder where none can be made: a sentence, not a wait without end', () => {
  // In a process of its own: what does not return cannot be stopped from within.
  if (!existsSync('/proc/self')) return;
  const script = `import { makeFolder } from '${import.meta.dirname}/atomic.js';
    try { makeFolder('/proc/turl/a'); } catch (error) { console.log(error.name + ': ' + error.message); }`;
  const { stdout } = spawnSync(process.execPath, ['--input-type=module', '-e', script], {
    encoding: 'utf8',
    timeout: 60_000,
    killSignal: 'SIGKILL',
  });
  assert.match(stdout, /^UserError: cannot make the folder \/proc\/turl\/a: no such file or folder\n$/);
});

test('an error of the writer comes through as it is, and leaves the old file', ({ folder }) => {
  const file = join(folder, 'a');
  writeAtomic(file, 'old');
  const bug = new TypeError('bug');
  assert.throws(
    () =>
      writeAtomic(file, () => {
        throw bug;
      }),
    (error: unknown) => error === bug,
  );
  assert.is(readFileSync(file, 'utf8'), 'old');
  assert.equal(readdirSync(folder), ['a']);
});

test('a missing folder, a folder in the place of the file', ({ folder }) => {
  raises(() => writeAtomic(join(folder, 'no/a'), 'x'), /no such file or folder$/);
  raises(() => writeAtomic(folder, 'x'), /it is a folder$/);
});

test('left-overs of killed processes are removed, other hidden files are not', ({ folder }) => {
  writeFileSync(join(folder, '.a.123.tmp'), '');
  writeFileSync(join(folder, '.keep'), '');
  removeTemporaries(folder);
  assert.equal(readdirSync(folder), ['.keep']);
});

test.run();
