// Options that change keys of an experiment, the same for every command that takes an experiment.
import type { Command } from 'commander';
import type { Override } from '../config/index.js';
import { UserError } from '../tensor/errors.js';

export interface OverrideOptions {
  data?: string;
  device?: string;
  set?: string[];
  workDir?: string;
  seed?: number;
  workers?: number;
  pairs?: string;
  images?: string;
  flip?: true;
}

/** What makes a whole number of an option's text; refuses anything else by the option's name. */
export function whole(option: string, least: number, most = Infinity): (text: string) => number {
  return (text) => {
    const value = Number(text);
    if (text.trim() !== '' && Number.isInteger(value) && value >= least && value <= most) return value;
    const range = most === Infinity ? `of at least ${least}` : `from ${least} to ${most}`;
    throw new UserError(`${option}: expected a whole number ${range}, got ${text}`);
  };
}

/** Of `--workers`, everywhere. */
export const workerCount = whole('--workers', 0, 1024);

/** Adds an option that may be given several times. */
export function repeatable(command: Command, flags: string, description: string): Command {
  const collect = (value: string, previous: string[] = []) => [...previous, value];
  return command.option(flags, `${description}; may be repeated`, collect);
}

export function addSet(command: Command): Command {
  return repeatable(command, '--set <key=value>', 'change a key of the experiment, such as evaluate.folds=5');
}

/** Sets the key at `path` where there is a value. */
export const named = (source: string, path: string, value: unknown): Override[] =>
  value === undefined ? [] : [{ source, path, value }];

export function overridesOf(options: OverrideOptions): (string | Override)[] {
  const { data, device, set, workDir, seed, workers, pairs, images, flip } = options;
  return [
    ...(set ?? []),
    ...named(`--data ${data}`, 'data.source', data === undefined ? undefined : 'photographs'),
    ...named(`--data ${data}`, 'data.path', data),
    ...named(`--device ${device}`, 'device', device),
    ...named(`--work-dir ${workDir}`, 'work_dir', workDir),
    ...named(`--seed ${seed}`, 'seed', seed),
    ...named(`--workers ${workers}`, 'data.workers', workers),
    ...named(`--pairs ${pairs}`, 'evaluate.pairs', pairs),
    ...named(`--images ${images}`, 'evaluate.images', images),
    ...named('--flip', 'evaluate.flip', flip),
  ];
}
