// The run directory is the record of a run:
//   config.yaml        the resolved experiment; loads to the same one
//   environment.json   each start of the run: time, command, seed, commit, versions, machine, device
//   metrics.jsonl, metrics.csv, events.out.tfevents.*
//   checkpoints/       step-000300.safetensors, ..., and `latest` with the name of the newest whole one
// Everything but the appended metrics is written atomically; one process at a time may have it open.
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, statSync } from 'node:fs';
import { basename, dirname, join } from 'node:path';
import * as z from 'zod';
import { configToYaml, loadConfig, type Config, type Override } from '../config/index.js';
import { UserError } from '../tensor/errors.js';
import {
  explainFileError,
  explaining,
  makeFolder,
  missingFolders,
  removeEmpty,
  removeTemporaries,
  writeAtomic,
} from './atomic.js';
import { deviceReport, machine, versions } from './environment.js';
import { MetricsLog, type Metrics } from './metrics-log.js';
import { lockRunDirectory } from './run-lock.js';
import { readSafetensorsMetadata, writeSafetensors, type TensorSource } from './safetensors.js';

const checkpointName = /^step-(\d+)\.safetensors$/;

export class RunDirectory {
  readonly #metrics: MetricsLog;
  readonly #release: () => void;

  private constructor(
    readonly path: string,
    readonly config: Config,
    metrics: MetricsLog,
    release: () => void,
  ) {
    this.#metrics = metrics;
    this.#release = release;
  }

  /**
   * A new directory: config.work_dir, or runs/<name>-<time>, with -2, -3, ... where others began in the same second. One that already
   * holds a run is refused.
   * @param advice what to do about that run instead
   */
  static create(config: Config, now = new Date(), advice = continueIt): RunDirectory {
    const path = config.work_dir ?? makeOwnFolder(join('runs', `${config.name}-${stamp(now)}`));
    makeFolder(join(path, 'checkpoints'), `the run directory ${path}`);
    return RunDirectory.#open(path, 0, now, () => {
      refuseRun(path, advice);
      writeAtomic(join(path, 'environment.json'), '[]\n');
      writeAtomic(join(path, 'config.yaml'), configToYaml(config));
      return config;
    });
  }

  /** @throws UserError when `create` would refuse; nothing that it writes stays */
  static check(config: Config): void {
    // Where no directory is named, one of the same kind that nobody else tries.
    const path = config.work_dir ?? join('runs', `${config.name}-dry-${process.pid}`);
    const folder = join(path, 'checkpoints');
    const missing = missingFolders(folder);
    try {
      makeFolder(folder, `the run directory ${path}`);
      lockRunDirectory(path)();
      refuseRun(path);
    } finally {
      removeEmpty(missing);
    }
  }

  /** An earlier run, to continue it after `step`: metrics beyond it are dropped. */
  static resume(path: string, step: number, now = new Date()): RunDirectory {
    runConfig(path);
    return RunDirectory.#open(path, step, now, () => runConfig(path));
  }

  static #open(path: string, step: number, now: Date, prepare: () => Config): RunDirectory {
    const release = lockRunDirectory(path);
    try {
      const config = prepare();
      removeTemporaries(path);
      removeTemporaries(join(path, 'checkpoints'));
      addStart(path, step, now, config);
      return new RunDirectory(path, config, new MetricsLog(path, step), release);
    } catch (error) {
      release();
      throw error;
    }
  }

  log(step: number, metrics: Metrics): void {
    this.#metrics.log(step, metrics);
  }

  /** Whether a line of `step`, the last that there is, has all these metrics. */
  logged(step: number, metrics: readonly string[]): boolean {
    return this.#metrics.has(step, metrics);
  }

  /** Writes a checkpoint, makes it the latest, and removes the oldest beyond config.train.keep. Returns its file. */
  saveCheckpoint(
    step: number,
    tensors: ReadonlyMap<string, TensorSource>,
    metadata: Readonly<Record<string, string>> = {},
  ): string {
    const name = `step-${String(step).padStart(6, '0')}.safetensors`;
    const folder = join(this.path, 'checkpoints');
    const file = join(folder, name);
    writeSafetensors(file, tensors, { ...metadata, step: String(step) });
    writeAtomic(join(folder, 'latest'), `${name}\n`);
    // Later ones are of a run that was since resumed from an earlier step: they do not count.
    const old = checkpoints(this.path).filter((checkpoint) => checkpoint.step <= step);
    for (const checkpoint of old.slice(0, -this.config.train.keep)) rmSync(checkpoint.file, { force: true });
    return file;
  }

  /** Lets another process in. */
  close(): void {
    this.#release();
  }
}

const continueIt = (path: string) => `continue it with --resume ${path}, or choose another --work-dir`;

function refuseRun(path: string, advice = continueIt): void {
  if (existsSync(join(path, 'config.yaml')))
    throw new UserError(`${path} already holds a run: ${advice(path)}`);
}

/** Makes the folder `path`, or the first of `path`-2, `path`-3, ... that is not there; returns the one that it made. */
function makeOwnFolder(path: string): string {
  makeFolder(dirname(path));
  for (let n = 1; ; n++) {
    const tried = n === 1 ? path : `${path}-${n}`;
    try {
      mkdirSync(tried);
      return tried;
    } catch (error) {
      if (!existsSync(tried)) throw explainFileError(error, `make the run directory ${tried}`);
    }
  }
}

/** Notes in environment.json that the run starts, or goes on, after `step`. */
function addStart(path: string, step: number, now: Date, config: Config): void {
  const file = join(path, 'environment.json');
  let starts: unknown[];
  try {
    starts = z.array(z.unknown()).parse(JSON.parse(readFileSync(file, 'utf8')));
  } catch {
    throw new UserError(`${file} cannot be read as a JSON list`);
  }
  starts.push({
    time: now.toISOString(),
    step,
    command: process.argv.slice(2),
    seed: config.seed,
    ...versions(),
    machine: machine(),
    device: deviceReport(config.device),
  });
  writeAtomic(file, `${JSON.stringify(starts, null, 2)}\n`);
}

/** The experiment of an existing run directory, changed by `overrides`. */
export function runConfig(path: string, overrides: readonly (string | Override)[] = []): Config {
  const file = join(path, 'config.yaml');
  if (!existsSync(file)) throw new UserError(`${path} is not a run directory: it has no config.yaml`);
  return loadConfig(file, overrides);
}

export interface Checkpoint {
  step: number;
  file: string;
}

/** The checkpoints of a run, by ascending step. */
export function checkpoints(path: string): Checkpoint[] {
  const folder = join(path, 'checkpoints');
  if (!existsSync(folder)) return [];
  return explaining(`read ${folder}`, () => readdirSync(folder))
    .flatMap((name) => {
      const step = checkpointName.exec(name)?.[1];
      return step === undefined ? [] : [{ step: Number(step), file: join(folder, name) }];
    })
    .sort((a, b) => a.step - b.step);
}

/** What `RUN` or `CHECKPOINT` on the command line means: the run's directory, and the checkpoint named or the latest. */
export function findCheckpoint(path: string): { run: string; checkpoint: Checkpoint } {
  if (!existsSync(path)) throw new UserError(`no such run directory or checkpoint: ${path}`);
  if (!statSync(path).isDirectory()) {
    const step = checkpointName.exec(basename(path))?.[1];
    const run = dirname(dirname(path));
    if (step === undefined || !existsSync(join(run, 'config.yaml')))
      throw new UserError(
        `${path} is not a checkpoint of a run: expected RUN/checkpoints/step-N.safetensors`,
      );
    return { run, checkpoint: { step: Number(step), file: path } };
  }
  if (!existsSync(join(path, 'config.yaml')))
    throw new UserError(`${path} is not a run directory: it has no config.yaml`);
  const checkpoint = latestCheckpoint(path);
  if (!checkpoint) throw new UserError(`${path} has no checkpoint yet`);
  return { run: path, checkpoint };
}

/** The one that `latest` names, or the newest where a run was stopped before it first wrote that. */
export function latestCheckpoint(path: string): Checkpoint | undefined {
  const all = checkpoints(path);
  const latest = join(path, 'checkpoints', 'latest');
  if (!existsSync(latest)) return all.at(-1);
  const name = explaining(`read ${latest}`, () => readFileSync(latest, 'utf8')).trim();
  const found = all.find(({ file }) => basename(file) === name);
  if (!found) throw new UserError(`${latest} names ${JSON.stringify(name)}, which is not there`);
  return found;
}

/**
 * The checkpoint to continue a run from; undefined before the first.
 * @throws UserError when there is no training to continue
 */
export function resumePoint(path: string): Checkpoint | undefined {
  runConfig(path);
  if (!existsSync(join(path, 'checkpoints')))
    throw new UserError(`--resume ${path}: expected a folder checkpoints in it, found none`);
  const checkpoint = latestCheckpoint(path);
  if (checkpoint && readSafetensorsMetadata(checkpoint.file)['parts'] === 'network')
    throw new UserError(
      `--resume ${path}: expected a run of turl train, found imported weights: start training from them with --set from=${path}`,
    );
  return checkpoint;
}

/**
 * The run of the experiment `name` that was started last in `folder`, for --resume without a run.
 * @param onSkipped is told of runs whose experiment cannot be read
 */
export function newestRun(folder: string, name: string, onSkipped: (line: string) => void): string {
  const nameOf = (path: string) => {
    try {
      return runConfig(path).name;
    } catch (error) {
      if (!(error instanceof UserError)) throw error;
      onSkipped(`${path} is skipped: ${error.message.split('\n')[0]}`);
      return undefined;
    }
  };
  const runs = (existsSync(folder) ? explaining(`read ${folder}`, () => readdirSync(folder)) : [])
    .map((name) => join(folder, name))
    .filter((path) => existsSync(join(path, 'config.yaml')) && nameOf(path) === name)
    .map((path) => ({ path, time: statSync(join(path, 'config.yaml')).mtimeMs }))
    .sort((a, b) => b.time - a.time);
  if (!runs[0]) throw new UserError(`there is no run of ${name} in ${folder} to resume`);
  return runs[0].path;
}

/** 20261123-235959, in local time. */
function stamp(now: Date): string {
  const two = (n: number) => String(n).padStart(2, '0');
  const date = `${now.getFullYear()}${two(now.getMonth() + 1)}${two(now.getDate())}`;
  return `${date}-${two(now.getHours())}${two(now.getMinutes())}${two(now.getSeconds())}`;
}
