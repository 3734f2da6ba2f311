import { spawn, spawnSync } from 'node:child_process';
import {
  appendFileSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { hostname, tmpdir } from 'node:os';
import { join } from 'node:path';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { configFrom } from '../config/index.js';
import { UserError } from '../tensor/errors.js';
import {
  checkpoints,
  findCheckpoint,
  newestRun,
  resumePoint,
  RunDirectory,
  runConfig,
} from './run-directory.js';
import { lockRunDirectory } from './run-lock.js';
import { readSafetensors, type TensorSource } from './safetensors.js';

const test = suite<{ folder: string; run: string }>('run directory');
test.before.each((context) => {
  context.folder = mkdtempSync(join(tmpdir(), 'turl-run-'));
  context.run = join(context.folder, 'run');
});
test.after.each((context) => rmSync(context.folder, { recursive: true }));

const raises = (run: () => unknown, message: RegExp) =>
  assert.throws(run, (error: unknown) => {
    if (!(error instanceof UserError)) throw error;
    assert.match(error.message, message);
    return true;
  });
const config = (run: string) => configFrom({ name: 'trial', work_dir: run, seed: 7, train: { keep: 2 } });
const weights = new Map<string, TensorSource>([
  ['w', { dtype: 'uint8', shape: [1], data: Uint8Array.of(9) }],
]);
const lines = (file: string) => readFileSync(file, 'utf8').trimEnd().split('\n');

test('a new run: its record', ({ run: path }) => {
  const run = RunDirectory.create(config(path), new Date(0));
  run.close();
  assert.equal(runConfig(path), config(path));
  const [start] = JSON.parse(readFileSync(join(path, 'environment.json'), 'utf8')) as Record<
    string,
    unknown
  >[];
  assert.equal(
    [start!['time'], start!['seed'], start!['node']],
    ['1970-01-01T00:00:00.000Z', 7, process.version],
  );
  assert.is((start!['device'] as { usable: boolean }).usable, true);
  assert.equal(readdirSync(path).sort(), [
    'checkpoints',
    'config.yaml',
    'environment.json',
    'events.out.tfevents.0.turl',
    'metrics.csv',
    'metrics.jsonl',
  ]);
  raises(() => RunDirectory.create(config(path)), /already holds a run: continue it with --resume/);
});

test('metrics: appended, columns that come later, cut back to the step resumed from', ({ run: path }) => {
  const [jsonl, csv, events] = ['metrics.jsonl', 'metrics.csv', 'events.out.tfevents.0.turl'].map((f) =>
    join(path, f),
  ) as [string, string, string];
  let run = RunDirectory.create(config(path));
  run.log(10, { loss: 3, rate: 100 });
  run.log(20, { loss: NaN });
  const eventsAt20 = readFileSync(events);
  run.log(30, { loss: 1, accuracy: 0.5 });
  run.close();
  assert.equal(
    lines(csv).map((line) => line.replace(/^(\d+),[^,]+/, '$1')),
    ['step,time,loss,rate,accuracy', '10,3,100,', '20,,,', '30,1,,0.5'],
  );
  // Killed while writing a line.
  appendFileSync(jsonl, '{"step": 40, "lo');
  run = RunDirectory.resume(path, 20);
  run.log(20, { loss: NaN }); // known
  assert.equal(
    lines(jsonl).map((line) => (JSON.parse(line) as { step: number }).step),
    [10, 20],
  );
  assert.equal(readFileSync(events), eventsAt20);
  run.log(25, { loss: 2 });
  run.close();
  assert.is(lines(csv).length, 4);
  assert.match(lines(csv)[3]!, /^25,[\d.]+,2,$/);
  const starts = JSON.parse(readFileSync(join(path, 'environment.json'), 'utf8')) as { step: number }[];
  assert.equal(
    starts.map(({ step }) => step),
    [0, 20],
  );
  for (const damaged of ['{"step": "x"}', '{"step": 1, "lo'])
    raises(() => {
      writeFileSync(jsonl, `${damaged}\n`);
      RunDirectory.resume(path, 20);
    }, /metrics\.jsonl:1: expected a JSON object/);
});

test('checkpoints: the newest are kept, later ones of an abandoned continuation do not count', ({
  run: path,
}) => {
  const run = RunDirectory.create(config(path));
  raises(() => findCheckpoint(path), /has no checkpoint yet/);
  for (const step of [100, 200, 300]) run.saveCheckpoint(step, weights, { epoch: '1' });
  const steps = () => checkpoints(path).map(({ step }) => step);
  assert.equal(steps(), [200, 300]);
  assert.equal(findCheckpoint(path), { run: path, checkpoint: checkpoints(path)[1]! });
  const { file } = checkpoints(path)[0]!;
  assert.equal(findCheckpoint(file), { run: path, checkpoint: { step: 200, file } });
  assert.equal(readSafetensors(file).metadata, { epoch: '1', step: '200' });
  run.saveCheckpoint(250, weights);
  assert.equal(steps(), [200, 250, 300]);
  assert.is(findCheckpoint(path).checkpoint.step, 250);
  rmSync(checkpoints(path)[1]!.file);
  raises(() => findCheckpoint(path), /latest names "step-000250\.safetensors", which is not there/);
  run.close();
});

test('what is not a run', ({ folder, run: path }) => {
  raises(() => findCheckpoint(path), /no such run directory or checkpoint/);
  raises(() => findCheckpoint(folder), /is not a run directory: it has no config\.yaml/);
  raises(() => RunDirectory.resume(folder, 0), /is not a run directory/);
  writeFileSync(join(folder, 'x'), '');
  raises(() => findCheckpoint(join(folder, 'x')), /is not a checkpoint of a run/);
  const skipped: string[] = [];
  const newest = (name: string) => newestRun(folder, name, (line) => skipped.push(line));
  raises(() => newest('trial'), /there is no run of trial in/);
  raises(() => RunDirectory.create(config(join(folder, 'x'))), /cannot make the run directory/);
  RunDirectory.create(config(path)).close();
  const later = join(folder, 'later');
  RunDirectory.create(config(later)).close();
  for (const [second, run] of [later, path, later].entries()) {
    utimesSync(join(run, 'config.yaml'), second, second);
    if (second > 0) assert.is(newest('trial'), run);
  }
  raises(() => newest('other'), /there is no run of other in/);
  assert.equal(skipped, []);
  // A run of another experiment that cannot be read is in nobody's way.
  mkdirSync(join(folder, 'old'));
  writeFileSync(join(folder, 'old/config.yaml'), 'gone: 1\nlost: 2\n');
  assert.is(newest('trial'), later);
  assert.is(skipped.length, 1);
  assert.match(skipped[0]!, /\/old is skipped: .*\/config\.yaml:1: gone: unknown key[^\n]*$/);
});

test('where a run is continued from', ({ folder, run: path }) => {
  raises(() => resumePoint(folder), /is not a run directory/);
  const run = RunDirectory.create(config(path));
  assert.is(resumePoint(path), undefined);
  run.saveCheckpoint(100, weights);
  assert.equal(resumePoint(path), checkpoints(path)[0]);
  run.saveCheckpoint(200, weights, { parts: 'network' });
  raises(
    () => resumePoint(path),
    /^--resume .*: expected a run of turl train, found imported weights: start training from them with --set from=/,
  );
  run.close();
  rmSync(join(path, 'checkpoints'), { recursive: true });
  raises(() => resumePoint(path), /^--resume .*: expected a folder checkpoints in it, found none$/);
});

test('a run that was stopped before its first `latest`: the newest checkpoint counts', ({ run: path }) => {
  const run = RunDirectory.create(config(path));
  const file = run.saveCheckpoint(100, weights);
  run.close();
  const latest = join(path, 'checkpoints/latest');
  rmSync(latest);
  for (const found of [resumePoint(path), findCheckpoint(path).checkpoint])
    assert.equal(found, { step: 100, file });
  mkdirSync(latest);
  raises(() => resumePoint(path), /^cannot read .*latest: it is a folder$/);
  rmSync(join(path, 'checkpoints'), { recursive: true });
  writeFileSync(join(path, 'checkpoints'), '');
  raises(() => resumePoint(path), /^cannot read .*checkpoints: a part of the path is not a folder$/);
  raises(() => RunDirectory.resume(path, 0), /^cannot read .*checkpoints: /);
  rmSync(join(path, 'checkpoints'));
  mkdirSync(join(path, 'checkpoints'));
  rmSync(join(path, 'metrics.jsonl'));
  mkdirSync(join(path, 'metrics.jsonl'));
  raises(() => RunDirectory.resume(path, 0), /^cannot read .*metrics\.jsonl: it is a folder$/);
});

test('runs that begin in the same second have directories of their own', ({ folder }) => {
  const before = process.cwd();
  process.chdir(folder);
  try {
    const unnamed = configFrom({ name: 'trial' });
    const runs = [1, 2, 3].map(() => RunDirectory.create(unnamed, new Date(0)));
    const [first] = runs;
    assert.equal(
      runs.map(({ path }) => path),
      [first!.path, `${first!.path}-2`, `${first!.path}-3`],
    );
    for (const run of runs) run.close();
    rmSync('runs', { recursive: true });
    RunDirectory.check(unnamed);
    assert.equal(readdirSync('.'), []);
    writeFileSync('runs', '');
    raises(() => RunDirectory.check(unnamed), /^cannot make .*runs/);
    raises(() => RunDirectory.create(unnamed), /^cannot make .*runs/);
  } finally {
    process.chdir(before);
  }
});

test('what is refused before a run begins, by a check that leaves nothing behind', ({
  folder,
  run: path,
}) => {
  RunDirectory.check(config(path));
  assert.equal(readdirSync(folder), []);
  mkdirSync(path);
  RunDirectory.check(config(path));
  assert.equal(readdirSync(path), []);
  const run = RunDirectory.create(config(path));
  raises(() => RunDirectory.check(config(path)), /already open in this process/);
  run.close();
  raises(() => RunDirectory.check(config(path)), /already holds a run: continue it with --resume/);
  for (const other of [join(path, 'config.yaml'), join(path, 'config.yaml/below'), '/proc/run'])
    raises(() => RunDirectory.check(config(other)), /cannot make the run directory/);
});

test('a second process, and the same one twice', ({ run: path }) => {
  const run = RunDirectory.create(config(path));
  raises(() => RunDirectory.resume(path, 0), /already open in this process/);
  const script = `import { RunDirectory } from '${import.meta.dirname}/run-directory.js';
    try { RunDirectory.resume(${JSON.stringify(path)}, 0).close(); console.log('in'); }
    catch (error) { console.log(error.name + ': ' + error.message); }`;
  const other = () =>
    spawnSync(process.execPath, ['--input-type=module', '-e', script], { encoding: 'utf8' }).stdout.trim();
  assert.match(
    other(),
    new RegExp(`^UserError: .* is in use by process ${process.pid}: wait for it, or choose`),
  );
  run.close();
  assert.is(other(), 'in');
  assert.not.ok(readdirSync(path).some((name) => name.startsWith('.lock')));
});

test('the lock of a zombie is taken over', async ({ folder }) => {
  if (!existsSync('/proc/self/stat')) return;
  // The parent becomes a program that never asks how its child ended.
  const parent = spawn('sh', ['-c', 'sleep 0.2 & echo $!; exec sleep 60'], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  const pid = await new Promise<string>((resolve) =>
    parent.stdout.once('data', (data) => resolve(String(data).trim())),
  );
  try {
    const fields = () => readFileSync(`/proc/${pid}/stat`, 'utf8').split(') ')[1]!.split(' ');
    const lock = join(folder, `.lock-${hostname().replaceAll('-', '_')}-${pid}-${fields()[19]}`);
    writeFileSync(lock, '');
    raises(() => lockRunDirectory(folder), new RegExp(`in use by process ${pid}`));
    while (fields()[0] !== 'Z') await new Promise((resolve) => setTimeout(resolve, 20));
    lockRunDirectory(folder)();
    assert.equal(readdirSync(folder), []);
  } finally {
    parent.kill('SIGKILL');
  }
});

test('the lock of a killed process is taken over at once; one on another machine is not', async ({
  folder,
}) => {
  const script = `import { lockRunDirectory } from '${import.meta.dirname}/run-lock.js';
    lockRunDirectory(${JSON.stringify(folder)}); console.log('in'); setInterval(() => {}, 1000);`;
  const child = spawn(process.execPath, ['--input-type=module', '-e', script], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  await new Promise((resolve) => child.stdout.once('data', resolve));
  raises(() => lockRunDirectory(folder), new RegExp(`in use by process ${child.pid}`));
  const ended = new Promise((resolve) => child.once('exit', resolve));
  child.kill('SIGKILL');
  await ended;
  assert.ok(readdirSync(folder).some((name) => name.includes(`-${child.pid}-`)));
  lockRunDirectory(folder)();
  // The number of a process that started at another time.
  if (existsSync('/proc/1/stat')) {
    writeFileSync(join(folder, `.lock-${hostname().replaceAll('-', '_')}-1-123456789012`), '');
    lockRunDirectory(folder)();
  }
  assert.equal(readdirSync(folder), []);
  writeFileSync(join(folder, '.lock-elsewhere-5-9'), '');
  raises(() => lockRunDirectory(folder), /process 5 on elsewhere: .* delete .*\.lock-elsewhere-5-9/);
  assert.equal(readdirSync(folder), ['.lock-elsewhere-5-9']);
});

test.run();
