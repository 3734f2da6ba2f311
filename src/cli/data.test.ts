import { spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import sharp from 'sharp';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';

const test = suite<{ root: string }>('turl data');
test.before.each((context) => {
  context.root = mkdtempSync(join(tmpdir(), 'turl-data-'));
});
test.after.each(({ root }) => rmSync(root, { recursive: true }));

const script = join(import.meta.dirname, '../../bin/turl.js');
const turl = (cwd: string, ...args: string[]) =>
  spawnSync(process.execPath, [script, 'data', ...args], { encoding: 'utf8', cwd });

test('pack says what it left as it was; a target that is there is one sentence', async ({ root }) => {
  mkdirSync(join(root, 'faces/a'), { recursive: true });
  const image = sharp({ create: { width: 9, height: 9, channels: 3, background: 'grey' } });
  writeFileSync(join(root, 'faces/a/1.png'), await image.png().toBuffer());
  writeFileSync(join(root, 'property'), '7,112,112\n');
  const { status, stdout } = turl(root, 'pack', 'faces', 'x.rec');
  assert.is(status, 0);
  assert.match(
    stdout,
    /^x\.rec: 1 images of 1 identities\nproperty was left as it is: it says "7,112,112", .*"1,9,9"\n$/,
  );
  assert.is(readFileSync(join(root, 'property'), 'utf8'), '7,112,112\n');
  const again = turl(root, 'pack', 'faces', 'x.rec');
  assert.equal([again.status, again.stderr], [2, 'turl: x.rec is there already: expected a new name\n']);
});

test('a preview that fails leaves no folder', ({ root }) => {
  writeFileSync(join(root, 'a.yaml'), 'seed: 1\n');
  const { status, stderr } = turl(root, 'preview', 'a.yaml', '--data', 'nowhere', '--to', 'sheets');
  assert.is(status, 2);
  assert.match(stderr, 'found none at nowhere');
  assert.is(existsSync(join(root, 'sheets')), false);
});

test.run();
