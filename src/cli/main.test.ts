import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { UserError } from '../tensor/errors.js';
import { report } from './main.js';

const test = suite('command line');

const script = join(import.meta.dirname, '../../bin/turl.js');
function turl(...args: string[]) {
  const { status, stdout, stderr } = spawnSync(process.execPath, [script, ...args], { encoding: 'utf8' });
  return { status, stdout, stderr };
}

test('info: every device, usable or with the reason why not', () => {
  const { status, stdout } = turl('info');
  assert.is(status, 0);
  for (const expected of [
    /^turl \d/,
    /Node v\d/,
    /│ cpu +│ yes/,
    /│ cuda +│ (yes|no)/,
    /│ emulated +│ (yes|no)/,
  ])
    assert.match(stdout, expected);
  const facts = JSON.parse(turl('info', '--json').stdout) as {
    devices: { name: string; description: string }[];
  };
  assert.equal(
    facts.devices.map(({ name }) => name),
    ['cpu', 'cuda', 'emulated'],
  );
  assert.ok(facts.devices.every(({ description }) => description.length > 10));
});

test('help is no error', () => {
  const { status, stdout, stderr } = turl('--help');
  assert.equal([status, stderr], [0, '']);
  assert.match(stdout, /info .*Print devices/);
});

test('usage errors: exit code 2, the nearest name, no stack trace', () => {
  for (const [args, expected] of [
    [[], /Usage: turl/],
    [['inof'], /unknown command 'inof'\n\(Did you mean info\?\)/],
    [['info', '--jsn'], /unknown option '--jsn'\n\(Did you mean --json\?\)/],
    [['info', 'x'], /too many arguments/],
    [['data', 'align', 'a', 'b', '--size', 'x'], /--size <pixels>' argument 'x' is invalid/],
  ] as const) {
    const { status, stderr } = turl(...args);
    assert.is(status, 2);
    assert.match(stderr, expected);
    assert.not.match(stderr, /\n +at /);
  }
});

test('errors: a sentence for the user, a request to report for a fault, the stack only when asked for', () => {
  const told = (error: unknown, debug?: string) => {
    let text = '';
    if (debug !== undefined) process.env['TURL_DEBUG'] = debug;
    else delete process.env['TURL_DEBUG'];
    const code = report(error, (more) => (text += more));
    return { code, text };
  };
  const user = told(new UserError('a is not b'), '1');
  assert.is(user.code, 2);
  assert.match(user.text, /turl:.* a is not b\n$/);
  const fault = told(new TypeError('x is undefined'));
  assert.is(fault.code, 1);
  assert.match(fault.text, /unexpected error: x is undefined\nThis is a fault of turl: please report it/);
  assert.not.match(fault.text, /\n +at /);
  assert.match(told(new TypeError('x'), '1').text, /\n +at /);
});

test('eval: what a protocol needs is asked for, and a malformed line is told, with exit code 2', () => {
  const folder = mkdtempSync(join(tmpdir(), 'turl-cli-'));
  writeFileSync(join(folder, 'splits.txt'), 'split number, first name\n1, 1, A/0 B/1, 1\n');
  for (const [args, expected] of [
    [['eval'], /expected a run or checkpoint, got none/],
    [['eval', '--protocol', 'ytf'], /--protocol ytf: expected --set-dir DIR/],
    [['eval', '--set-dir', folder, 'run'], /--set-dir: expected --protocol NAME/],
    [['eval', '--protocol', 'ytf', '--set-dir', folder], /expected a run or checkpoint, or --embeddings/],
    [['eval', 'run', '--protocol', 'lfw'], /--protocol: expected ijba, .*, got lfw/],
    [
      ['eval', '--protocol', 'ytf', '--set-dir', folder, '--embeddings', 'a.safetensors', '--flip'],
      /--flip: expected images to embed, got --embeddings/,
    ],
    [
      ['eval', 'run', '--bootstrap', '1e12'],
      /--bootstrap: expected a whole number from 0 to 1000000, got 1e12/,
    ],
    [['eval', 'run', '--fusion', 'mean'], /--fusion: expected --protocol NAME/],
    [['eval', 'run', '--json', '--csv'], /option '--csv' cannot be used with option '--json'/],
    [
      ['eval', 'run', '--protocol', 'ytf', '--set-dir', folder],
      /splits.txt:2: expected split, number, .*found "1, 1, A\/0 B\/1, 1"/,
    ],
    [
      ['embed', 'run', 'faces', '--out', join(folder, 'a.npy'), '--images', 'x'],
      /--images: expected --protocol NAME/,
    ],
  ] as const) {
    const { status, stdout, stderr } = turl(...args);
    assert.equal([status, stdout], [2, ''], args.join(' '));
    assert.match(stderr, expected);
  }
  rmSync(folder, { recursive: true });
});

test('output that cannot be written is an error, a reader that went away is none', () => {
  const shell = (command: string) => {
    const env = { ...process.env, TURL: `${process.execPath} ${script}` };
    return spawnSync('sh', ['-c', command], { encoding: 'utf8', env });
  };
  for (const args of ['--help', 'info', 'info --json']) {
    const { status, stderr } = shell(`$TURL ${args} > /dev/full`);
    assert.equal([status, stderr], [2, 'turl: cannot write the output: the disk is full\n'], args);
  }
  assert.is(shell('{ sleep 0.5; $TURL --help; echo $? >&2; } | true').stderr, '0\n');
});

test('mine: another stage and another kind of table are refused', () => {
  for (const [args, expected] of [
    [
      ['train', 'experiments/quickstart.yaml'],
      /quickstart\.yaml: stage: expected attributes, .*, found identi/,
    ],
    [['label', 'run', '--data', 'x', '--out', 'x.txt'], /--out x\.txt: expected a name that ends in \.csv/],
  ] as const) {
    const { status, stdout, stderr } = turl('mine', ...args);
    assert.equal([status, stdout], [2, ''], args.join(' '));
    assert.match(stderr, expected);
  }
});

test.run();
